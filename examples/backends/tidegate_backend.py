"""What the modules in this folder share: publish JSON on NATS, and read the statistics of Tidegate.

NATS_URL is the address of NATS, TIDEGATE_URL that of any node, and TIDEGATE_TOKEN a token or API key for /ws/stats.
TIDEGATE_AUTH__USER_CLAIM is what the nodes have as `auth.user_claim`: with it, users are encoded in subjects.
"""

import asyncio
import json
import os
import re
import urllib.request

import nats

_connected, _connecting = None, asyncio.Lock()


async def connection():
    """The connection to NATS of this program. The first call opens it; then it reconnects without end."""
    global _connected
    async with _connecting:
        if _connected is None or _connected.is_closed:
            url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
            _connected = await nats.connect(url, name="backend", max_reconnect_attempts=-1)
    return _connected


async def publish(subject, payload):
    await (await connection()).publish(subject, json.dumps(payload, default=str, ensure_ascii=False).encode())


def encodes_users():
    """Whether the nodes encode users in subjects."""
    return bool(os.environ.get("TIDEGATE_AUTH__USER_CLAIM"))


def token(user_id):
    """The user in a subject. Where users are encoded, as `tidegate subject` prints it: ann@example=2Ecom."""
    name = str(user_id)
    if encodes_users():
        return re.sub(rb"[^A-Za-z0-9_@:-]", lambda it: b"=%02X" % ord(it[0]), name.encode()).decode()
    if not re.fullmatch(r"[A-Za-z0-9_=@:-]{1,128}", name):
        reason = "has only letters, digits and _-=@: unless the nodes have auth.user_claim (TIDEGATE_AUTH__USER_CLAIM)"
        raise ValueError(f"a user {reason}: {name!r}")
    return name


def user_of(user_token):
    """The user whom a subject names: the reverse of `token`."""
    if not encodes_users():
        return user_token
    return re.sub(rb"=([0-9A-F]{2})", lambda it: bytes.fromhex(it[1].decode()), user_token.encode()).decode()


def is_word(text):
    """Whether a text can be one token of a subject."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_=@:/+^&#~-]{1,128}", text) is not None


def word(what, text):
    """A text that must be one token: with a dot, a message would reach no page, or the wrong one."""
    if not is_word(text):
        raise ValueError(f"{what} is one word, without dots and blanks: {text!r}")
    return text


def dotted(text):
    """A symbol, which may have dots: BRK.B."""
    if not all(map(is_word, text.split("."))):
        raise ValueError(f"a symbol is words with dots between them: {text!r}")
    return text


def stats():
    """What `GET /ws/stats` of any node says about all nodes."""
    headers = {"Authorization": f"Bearer {os.environ['TIDEGATE_TOKEN']}"} if "TIDEGATE_TOKEN" in os.environ else {}
    url = os.environ.get("TIDEGATE_URL", "http://127.0.0.1:8000") + "/ws/stats"
    return json.load(urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5))
