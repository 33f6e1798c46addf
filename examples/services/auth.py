"""Says who a client is, and who may subscribe to a room: the service of docs/TOKENS.md for Tidegate.

    pip install -r requirements.txt
    NATS_URL=nats://decider:PASSWORD@127.0.0.1:4222 python auth.py

It knows two sessions, as a web framework would have them in its database.
"""

import asyncio
import json
import os
import time

import nats

SESSIONS = {"session-of-ann": "ann", "session-of-bob": "bob"}
SUSPENDED = {"bob"}
MEMBERS = {"rooms.staff": {"ann"}}


def connect(question: dict) -> dict:
    """The identity for a credential, or for the cookie `sessionid`."""
    session = question["credential"] or question["cookies"].get("sessionid")
    user = SESSIONS.get(session)
    if user is None:
        return {"refused": "sign in again: this session has ended"}
    if user in SUSPENDED:
        return {"refused": "your account is suspended"}
    return {
        "user": user,
        "roles": ["user"],
        "expires": int(time.time()) + 3600,
        "channels": [f"user.{user}.notifications"],
    }


def subscribe(question: dict) -> dict:
    """Whether the client may subscribe. A channel with a wildcard would reach rooms of others."""
    members = MEMBERS.get(question["channel"])
    if members is not None and question["user"] in members:
        return {"allow": True, "cache_s": 30}
    return {"allow": False, "message": "only members of this room may read it"}


async def main() -> None:
    client = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))

    def answering(decide):
        async def answer(request) -> None:
            await request.respond(json.dumps(decide(json.loads(request.data))).encode())

        return answer

    # Several processes with the same queue share the questions.
    await client.subscribe("auth.connect", queue="auth", cb=answering(connect))
    await client.subscribe("authz.rooms", queue="auth", cb=answering(subscribe))
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
