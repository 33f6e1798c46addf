#!/usr/bin/env python3
"""Runs every line of "What producers publish" in vocabularies/README.md with the real nats command.

    nats_lines.py --nats nats://127.0.0.1:4222 --secret TEXT --cli PATH --ws sentio=ws://127.0.0.1:8000 [--ws …]

The section has a table for each system. A row has a command, the page that it is for (its path, and what it sends), and
the message that the page gets. `"…"` is any text. `nats pub` runs after the page has sent its messages, and `nats reply`
before the last of them. Each `deliver` rule and each request of a vocabulary needs a row. Prints `ok SEED LINE` or
`FAIL SEED LINE reason` for each row. The exit code is 0 if all are ok, 1 if one failed, and 64 for bad usage.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "python"))

import kit  # noqa: E402

VOCABULARIES = Path(__file__).parent.parent.parent / "vocabularies"
SECTION = "What producers publish"
NOTHING = "nothing"
LIMIT_S = 15
# How long to wait for a message before the command runs again: the subscription of the page may not have been live.
AGAIN_S = 0.4
HEADINGS = {
    "financegpt.toml": "financegpt",
    "financegpt-tools.toml": "financegpt-tools",
    "financegpt-mcp.toml": "financegpt-mcp",
    "hoardrun.toml": "hoardrun",
    "stock-agent.toml": "stock-agent",
    "sentio.toml": "sentio",
    "ara.toml": "ara",
}


@dataclass
class Row:
    seed: str
    vocabulary: str
    # The claims of the token of the page, all but `exp`.
    claims: dict[str, object]
    line: str
    command: list[str]
    path: str
    sends: list[object]
    wants: object

    @property
    def verb(self) -> str:
        return self.command[1]

    @property
    def subject(self) -> str:
        return self.command[2]


def wanted(value: object) -> object:
    """The expected message, in which `"…"` is any text."""
    if isinstance(value, dict):
        return {name: wanted(it) for name, it in value.items()}
    if isinstance(value, list):
        return [wanted(it) for it in value]
    return kit.ANY_TEXT if value == "…" else value


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows() -> Iterator[Row]:
    readme = (VOCABULARIES / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"(?ms)^## {SECTION}\n(.*?)(?=^## |\Z)", readme)
    assert section, f"vocabularies/README.md has no section {SECTION!r}"
    for part in re.split(r"(?m)^### ", section[1])[1:]:
        heading, _, body = part.partition("\n")
        (vocabulary,) = code(heading)
        # Claims after the path of a page are those of this page.
        printed = re.findall(r"(?:`(/[^`]*)`:\s+)?`(\{\"sub\".*?\})`", body)
        claims = {path: json.loads(it) for path, it in printed}
        for line in re.findall(r"(?m)^\| `nats .*$", body):
            command, page, gets = line.strip("| ").split(" | ")
            path, *sends = code(page)
            yield Row(
                HEADINGS[vocabulary],
                vocabulary,
                claims.get(path, claims[""]),
                code(command)[0],
                shlex.split(code(command)[0]),
                path,
                [json.loads(it) for it in sends],
                None if gets == NOTHING else wanted(json.loads(code(gets)[0])),
            )


def overlap(one: str, other: str) -> bool:
    """Whether some subject matches both patterns."""
    ones, others = one.split("."), other.split(".")
    for a, b in zip(ones, others):
        if ">" in (a, b):
            return True
        if "*" not in (a, b) and a != b:
            return False
    return len(ones) == len(others)


def missing(vocabulary: str, mine: list[Row]) -> Iterator[str]:
    """The rules of a vocabulary for which there is no row."""
    rules = tomllib.loads((VOCABULARIES / vocabulary).read_text(encoding="utf-8"))
    for rule in rules.get("deliver", []):
        patterns = rule["pattern"] if isinstance(rule["pattern"], list) else [rule["pattern"]]
        for pattern in patterns:
            if "if" not in rule and not any(it.verb == "pub" and overlap(pattern, it.subject) for it in mine):
                yield f"no `nats pub` for the deliver rule {pattern}"
    for rule in rules.get("receive", []):
        if rule.get("do") == "request" and "if" not in rule:
            pattern = re.sub(r"\{[^}]*\|dotted\}", ">", rule["subject"])
            pattern = re.sub(r"\{[^}]*\}", "*", pattern)
            if not any(it.verb == "reply" and overlap(pattern, it.subject) for it in mine):
                yield f"no `nats reply` for the request {pattern}"


class Lines:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        # The command reads no context of the developer.
        self.environment = os.environ | {"NATS_URL": options.nats, "XDG_CONFIG_HOME": os.devnull, "NATS_CONTEXT": ""}
        self.passed = self.failed = 0

    def report(self, seed: str, line: str, reason: str = "") -> None:
        self.failed += bool(reason)
        self.passed += not reason
        print(f"FAIL {seed} {line}: {reason}" if reason else f"ok {seed} {line}", flush=True)

    async def command(self, row: Row) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self.options.cli,
            *row.command[1:],
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def published(self, row: Row) -> None:
        process = await self.command(row)
        out, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        if process.returncode:
            raise kit.Wrong(f"the nats command failed: {out.decode().strip()}")

    async def run(self, row: Row, socket: kit.Socket) -> None:
        if row.verb == "pub":
            await self.until(row, socket, lambda: self.published(row))
            return
        service = await self.command(row)
        try:
            # The command says on which subject it listens, before it subscribes.
            first = (await asyncio.wait_for(service.stdout.readline(), LIMIT_S)).decode()
            if row.subject not in first:
                raise kit.Wrong(f"the nats command failed: {first.strip()}")
            await self.until(row, socket, lambda: socket.send(row.sends[-1]))
        finally:
            with contextlib.suppress(ProcessLookupError):
                service.terminate()
            await service.wait()

    async def until(self, row: Row, socket: kit.Socket, act: Callable[[], Awaitable[None]]) -> None:
        """Repeats the act until the page gets the message."""
        others: list[str] = []
        socket.forget()
        deadline = asyncio.get_running_loop().time() + LIMIT_S
        while asyncio.get_running_loop().time() < deadline:
            await act()
            if row.wants is None:
                await socket.quiet()
                return
            with contextlib.suppress(kit.Wrong):
                while True:
                    text = await socket.raw(AGAIN_S)
                    if kit.same(row.wants, json.loads(text)):
                        return
                    others.append(text)
        raise kit.Wrong(f"expected {kit.short(row.wants)}, got {kit.short(others[-1] if others else 'nothing')}")


@contextlib.asynccontextmanager
async def page(row: Row, stage: kit.Stage) -> AsyncIterator[kit.Socket]:
    # Pages of guests have no user.
    token = stage.token(**{"role": None} | row.claims) if row.claims["sub"] else ""
    subprotocols = {"subprotocols": ["mcp"]} if row.vocabulary == "financegpt-mcp.toml" else {}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with stage.socket(row.path, additional_headers=headers, **subprotocols) as socket:
        for message in row.sends if row.verb == "pub" else row.sends[:-1]:
            await socket.send(message)
        yield socket


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.print_usage(sys.stderr)
        self.exit(64, f"{self.prog}: {message}\n")


async def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", required=True, metavar="URL")
    parser.add_argument("--secret", required=True, metavar="TEXT")
    parser.add_argument("--cli", required=True, metavar="PATH")
    parser.add_argument("--ws", required=True, action="append", metavar="SEED=URL")
    options = parser.parse_args()
    urls = dict(it.split("=", 1) for it in options.ws)
    lines = Lines(options)
    nc = await kit.nats_client(options.nats)
    mine = [it for it in rows() if it.seed in urls]
    for vocabulary, seed in HEADINGS.items():
        if seed in urls:
            for what in missing(vocabulary, [it for it in mine if it.vocabulary == vocabulary]):
                lines.report(seed, vocabulary, what)

    async def in_order(some: list[Row]) -> None:
        for row in some:
            try:
                async with page(row, kit.Stage(urls[row.seed], nc, options.secret)) as socket:
                    await lines.run(row, socket)
            except Exception as error:  # noqa: BLE001 - every exception is a failure of the row
                lines.report(row.seed, row.line, f"{type(error).__name__}: {' '.join(str(error).split())}")
            else:
                lines.report(row.seed, row.line)

    # A row for which no message arrives runs alone: the systems share subjects.
    loud = [it for it in mine if it.wants is not None]
    await asyncio.gather(*(in_order([it for it in loud if it.seed == seed]) for seed in urls))
    await in_order([it for it in mine if it.wants is None])
    await nc.close()
    print(f"lines of vocabularies/README.md: {lines.passed} passed, {lines.failed} failed")
    return 1 if lines.failed or not lines.passed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
