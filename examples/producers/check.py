#!/usr/bin/env python3
"""Checks that the producers in all languages send the same publications and replies as the one in Python.

"$(tests/setup.sh --python)" examples/producers/check.py                starts a NATS server of its own
"$(tests/setup.sh --python)" examples/producers/check.py --nats URL     uses a server without other publishers

Prints one line for each language and system. The exit code is 0 if all producers agree, and 1 otherwise. A language whose
tools are not installed is skipped. The first run downloads and builds the packages of the others.
"""

import argparse
import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SYSTEMS = ["financegpt", "hoardrun", "stock-agent", "sentio", "ara"]
LIMIT_S = 20

# The requests to the systems that answer requests. The last two of FinanceGPT Pro are invalid: the replies are errors.
REQUESTS = {
    "financegpt": [
        ("finance.USR001.balance", '{"type":"get_balance","account":"savings"}'),
        ("finance.USR001.balance", '{"account":"current"}'),
        ("finance.USR001.balance", '{"account":"unknown"}'),
        ("finance.USR002.balance", "null"),
        ("finance.USR001.transactions", '{"type":"get_transactions","limit":3}'),
        ("finance.USR001.transactions", "{}"),
        ("finance.USR001.transactions", '{"limit":100}'),
        ("finance.USR001.acknowledge", '{"alert_id":"alert-1"}'),
        ("mcp.tools", "null"),
        ("tools.loan_calculator.USR001", '{"amount":500000,"months":60}'),
        ("tools.loan_calculator.USR002", '{"amount":1000,"months":24,"rate":5}'),
        ("tools.loan_calculator.USR002", '{"amount":1000}'),
        ("tools.loan_calculator.USR001", "{}"),
        ("tools.loan_calculator.USR001", "no JSON"),
    ],
    "ara": [
        ("predict.AAPL", '{"type":"request_prediction","symbol":"AAPL"}'),
        ("predict.TSLA", "{}"),
        ("predict.BRK.B", "{}"),
    ],
}

Messages = dict[str, object]


def python(_out: Path) -> list[str]:
    return [sys.executable, str(HERE / "python/feed.py")]


def node(_out: Path) -> list[str]:
    folder = HERE / "node"
    if not (folder / "node_modules").is_dir():
        build("npm", "ci", "--prefix", str(folder))
    return ["node", str(folder / "feed.mjs")]


def go(out: Path) -> list[str]:
    build("go", "build", "-C", str(HERE / "go"), "-o", str(out / "feed"), ".")
    return [str(out / "feed")]


def rust(_out: Path) -> list[str]:
    folder, target = HERE / "rust", ROOT / "target/producers"
    manifest = ["--manifest-path", str(folder / "Cargo.toml")]
    build("cargo", "build", "--locked", "--quiet", *manifest, "--target-dir", str(target))
    return [str(target / "debug/feed")]


# The others are compared with the first.
LANGUAGES = {"python": (python, []), "node": (node, ["node", "npm"]), "go": (go, ["go"]), "rust": (rust, ["cargo"])}


def build(*command: str) -> None:
    print(f"      {' '.join(command)}", file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=sys.stderr)


def kind(value: object) -> object:
    """The shape of a value, with the keys of objects. Values that differ only in numbers, times and texts are equal."""
    match value:
        case dict():
            return {key: kind(member) for key, member in sorted(value.items())}
        case list():
            return [kind(member) for member in value]
        case bool() | None:
            return value
        case int() | float():
            return "number"
        case str() if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value):
            age = abs(datetime.now(UTC) - datetime.fromisoformat(value)).total_seconds()
            return "now" if age < 60 else "another time"
    return "text"


class Listener:
    """Records everything that is published on a server, in order."""

    def __init__(self) -> None:
        self.received: list[tuple[str, object]] = []

    async def on_message(self, message: Msg) -> None:
        # Requests and replies are not publications.
        if not message.reply and not message.subject.startswith("_INBOX."):
            self.received.append((message.subject, kind(json.loads(message.data))))


@asynccontextmanager
async def listening(nc: Client) -> AsyncIterator[Listener]:
    listener = Listener()
    subscription = await nc.subscribe(">", cb=listener.on_message)
    await nc.flush()
    yield listener
    await subscription.unsubscribe()


@asynccontextmanager
async def running(command: list[str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def exited(process: Process) -> str:
    """Waits for the process to exit, and returns its output. Raises an error if the exit code is not 0."""
    async with asyncio.timeout(LIMIT_S):
        output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the exit code is {process.returncode}")
    return output.decode()


async def once(nc: Client, feed: list[str]) -> Messages:
    """The publications of one round, by subject: runs the producer with `--once`."""
    async with listening(nc) as listener, running([*feed, "--once"]) as process:
        await exited(process)
        await nc.flush()
    sent: Messages = {}
    for subject, payload in listener.received:
        sent[subject] = [*sent.get(subject, []), payload]
    return sent


async def served(nc: Client, feed: list[str], system: str) -> Messages:
    """The replies, and the publications for another user: runs the producer with `--serve` until Ctrl-C."""
    async with running([*feed, "--user", "somebody", "--every", "100", "--serve"]) as process:
        # No listener yet: to NATS, a subscription to everything is a responder.
        sent: Messages = {}
        for subject, request in REQUESTS.get(system, []):
            sent[f"{subject} {request}"] = await fetch_reply(nc, subject, request)
        async with listening(nc) as listener:
            await rounds(listener, 3)
        process.send_signal(signal.SIGINT)
        sent["prints"] = sorted((await exited(process)).splitlines())
    for subject, payload in listener.received:
        sent[f"{subject} of the other user"] = payload
    return sent


async def fetch_reply(nc: Client, subject: str, request: str) -> object:
    deadline = monotonic() + LIMIT_S
    while True:
        try:
            reply = await nc.request(subject, request.encode(), timeout=LIMIT_S)
            break
        except NoRespondersError:
            # The producer may still be starting.
            if monotonic() > deadline:
                return "no reply"
            await asyncio.sleep(0.05)
    if reply.headers and "Nats-Service-Error" in reply.headers:
        return f"error {reply.headers.get('Nats-Service-Error-Code')}"
    answer = json.loads(reply.data)
    # Every prediction is different.
    return kind(answer) if subject.startswith("predict.") else answer


async def rounds(listener: Listener, number: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not (got := listener.received) or [subject for subject, _ in got].count(got[0][0]) < number:
            await asyncio.sleep(0.02)


def differences(sent: Messages, reference: Messages) -> list[str]:
    every = sorted(sent.keys() | reference.keys())
    return [
        f"{what}: {sent.get(what, 'nothing')}, but Python's {reference.get(what, 'nothing')}"
        for what in every
        if sent.get(what) != reference.get(what)
    ]


async def check(url: str, out: Path) -> bool:
    all_agree = True
    references: dict[str, tuple[Messages, Messages]] = {}
    nc = await nats.connect(url, name="check of the producers")
    for language, (ready, tools) in LANGUAGES.items():
        if missing := [tool for tool in tools if not shutil.which(tool)]:
            print(f"skip  {language}: {' and '.join(missing)} not installed")
            continue
        try:
            command = ready(out)
        except subprocess.CalledProcessError as error:
            print(f"FAIL  {language}: {error}")
            all_agree = False
            continue
        for system in SYSTEMS:
            feed = [*command, system, "--nats", url]
            try:
                sent = await once(nc, feed), await served(nc, feed, system)
                if language == "python":
                    references[system] = sent
                reference = references.get(system, ({}, {}))
                errors = differences(sent[0], reference[0]) + differences(sent[1], reference[1])
            except (RuntimeError, TimeoutError, ValueError) as error:
                sent, errors = ({}, {}), [f"{type(error).__name__}: {error}"]
            subjects, requests = len(sent[0]), len(REQUESTS.get(system, []))
            verdict = "FAIL" if errors else "ok"
            print(f"{verdict:4}  {language:6}  {system:11}  {subjects:2} subjects, {requests:2} requests", flush=True)
            for line in errors:
                print(f"        {line}")
            all_agree = all_agree and not errors
    await nc.drain()
    return all_agree


@contextmanager
def server(out: Path) -> Iterator[str]:
    """Runs a NATS server on a free port."""
    program = subprocess.run([ROOT / "nats/get-nats-server.sh"], check=True, capture_output=True, text=True).stdout
    command = [program.strip(), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = monotonic() + LIMIT_S
        while monotonic() < deadline and process.poll() is None:
            for file in out.glob("*.ports"):
                if urls := re.findall(r"nats://127\.0\.0\.1:\d+", file.read_text()):
                    yield urls[0]
                    return
            sleep(0.05)
        raise RuntimeError("nats-server does not start")
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", metavar="URL", help="a server without other publishers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if options.nats:
            return 0 if asyncio.run(check(options.nats, out)) else 1
        with server(out) as url:
            return 0 if asyncio.run(check(url, out)) else 1


if __name__ == "__main__":
    sys.exit(main())
