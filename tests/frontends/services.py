#!/usr/bin/env python3
"""Runs the services of examples/services, each with a node of its configuration, and connects clients.

    services.py --tidegate PATH

The steps of the README, and the subscriptions that the services decide about. Prints `ok LANGUAGE` or an error. The exit
code is 0 if all is as documented.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import websockets
from all import HERE, READY_S, ROOT, free_port, ready, running

SERVICES = ROOT / "examples/services"


def preflight(url: str, session: str) -> tuple[int, str | None]:
    """The status and the detail of the answer to a handshake with this session."""
    request = urllib.request.Request(
        f"{url}/v1/preflight?path=/ws", headers={"Authorization": f"Bearer {session}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=READY_S) as answer:
            return answer.status, None
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)["detail"]


async def subscribed(url: str, channels: list[str]) -> dict[str, str]:
    """What Ann gets for each channel: `subscribed`, or the message of the error."""
    answers = {}
    cookie = {"Cookie": "sessionid=session-of-ann", "Sec-Fetch-Site": "same-origin"}
    async with websockets.connect(f"ws{url[4:]}/ws", additional_headers=cookie) as socket:
        for channel in channels:
            await socket.send(json.dumps({"type": "subscribe", "channel": channel}))
        while len(answers) < len(channels) + 1:
            message = json.loads(await asyncio.wait_for(socket.recv(), READY_S))
            if message["type"] in ("subscribed", "error"):
                answers[message["channel"]] = message.get("message", message["type"])
    return answers


def until_ready(log: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + READY_S
    while "ready" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the service does not start:\n{log.read_text()}")
        time.sleep(0.05)


def check(language: str, command: list[str], tidegate: str, nats_server: str, folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        nats_port, monitor, port = free_port(), free_port(), free_port()
        nats, url = f"nats://127.0.0.1:{nats_port}", f"http://127.0.0.1:{port}"
        server = [nats_server, "-a", "127.0.0.1", "-p", str(nats_port), "-m", str(monitor)]
        process = stack.enter_context(running(server, folder / "nats.log"))
        ready(f"http://127.0.0.1:{monitor}/healthz", process, folder / "nats.log")
        node = [tidegate, "serve", "--config", str(SERVICES / "config.toml")]
        node += ["--set", f"nats.url={nats}", "--set", f"http.listen=127.0.0.1:{port}"]
        process = stack.enter_context(running(node, folder / "node.log"))
        ready(f"{url}/readyz", process, folder / "node.log")
        status, detail = preflight(url, "session-of-ann")
        assert status == 503 and "no service" in detail, (language, status, detail)
        log = folder / "service.log"
        service = stack.enter_context(running(command, log, NATS_URL=nats))
        until_ready(log, service)
        assert preflight(url, "session-of-ann") == (204, None), language
        assert preflight(url, "session-of-bob") == (401, "your account is suspended"), language
        assert preflight(url, "unknown") == (401, "sign in again: this session has ended"), language
        refused = "only members of this room may read it"
        assert asyncio.run(subscribed(url, ["rooms.staff", "rooms.board", "rooms.*"])) == {
            "user.ann.notifications": "subscribed",
            "rooms.staff": "subscribed",
            "rooms.board": refused,
            "rooms.*": refused,
        }, language
    print(f"ok services {language}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=Path)
    tidegate = str(parser.parse_args().tidegate.resolve())
    nats_server = subprocess.run(
        [ROOT / "nats/get-nats-server.sh"], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="tidegate-services-") as name:
        folder = Path(name)
        shutil.copyfile(SERVICES / "auth.mjs", folder / "auth.mjs")
        (folder / "node_modules").symlink_to(HERE / "node_modules")
        commands = {
            "Python": [sys.executable, str(SERVICES / "auth.py")],
            "Node.js": ["node", str(folder / "auth.mjs")],
        }
        for language, command in commands.items():
            check(language, command, tidegate, nats_server, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
