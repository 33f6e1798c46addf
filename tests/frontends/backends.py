#!/usr/bin/env python3
"""Runs the backends of the documents with the modules of examples/backends, against nodes that serve the vocabularies.

    backends.py [FOLDER] --tidegate PATH --nats nats://127.0.0.1:4222 --secret TEXT --ws sentio=ws://… [--ws SEED=URL …]

Each case of python/backend_cases.py connects pages, runs a program that publishes, and compares what the pages receive.
The program is our own, or with FOLDER also the snippet of the document, unchanged: FOLDER has the documents as 000*.txt
to 004*.txt. A snippet that publishes and has no case fails. Prints `ok SEED CASE` or `FAIL SEED CASE reason` for each.
The exit code is 0 if all are ok, 1 if one failed, and 64 for bad usage.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "python"))

import kit  # noqa: E402
from backend_cases import DOCUMENTS, Case, Page  # noqa: E402
from documents import blocks  # noqa: E402

HERE = Path(__file__).parent
BACKENDS = HERE.parent.parent / "examples/backends"
# What marks a block as a backend's, and not a page's.
PUBLISHES = re.compile(
    r"broadcast|send_alert|connection_manager|dashboard_ws_manager|active_?websockets|notifyUser|update_interval", re.I
)
OPENS = re.compile(r"new WebSocket\(|websockets\.connect\(")
LIMIT_S = 15
# The accounts that users of FinanceGPT Pro share, and the type of hoardrun's tokens.
CLAIMS = {"accounts": [], "token_type": "access"}
USERS = ["USR001", "ann@example.com", "a=b", "Zoë", "two words", "a*b>c/d"]


def installed(folder: Path) -> None:
    """Copies the modules to the places that the table of the README names."""
    readme = (BACKENDS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `([\w.]+)` \| ((?:`[\w./]+`(?:, )?)+) \|", readme)
    assert len(rows) >= 6, "the README of examples/backends has no table of modules and places"
    for name, places in rows:
        for place in re.findall(r"`([\w./]+)`", places):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(BACKENDS / name, folder / place)
    (folder / "node_modules").symlink_to(HERE / "node_modules")


def untested() -> Iterator[str]:
    """The functions in the tables of the README that no case calls."""
    readme = (BACKENDS / "README.md").read_text(encoding="utf-8")
    programs = "".join(it.before + it.ours + it.after for _, cases in DOCUMENTS.values() for it in cases)
    for cells in re.findall(r"(?m)^\| (`[^|]*\(.*?) \|", readme):
        for name in re.findall(r"(\w+)\(", cells):
            if not re.search(rf"\b{name}\b", programs):
                yield name


PYTHON = """
import json, sys, tidegate_backend as it
def token(user):
    try:
        return it.token(user)
    except ValueError:
        return "refused"
tokens = [token(user) for user in sys.argv[1:]]
print(json.dumps([tokens, [it.user_of(token) for token in tokens]]))
"""
NODE = """
const { token } = await import('./financegpt.mjs');
const tokens = process.argv.slice(1).map((user) => {
  try {
    return token(user);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return 'refused';
  }
});
console.log(JSON.stringify(tokens));
"""


async def encoded(tidegate: str, folder: Path) -> list[str]:
    """The users for which the modules write other subjects than `tidegate subject` or, without TIDEGATE_AUTH__USER_CLAIM,
    do not write the user as it is."""
    installed(folder)

    async def output_of(*command: str, user_claim: str = "") -> str:
        environment = os.environ | {"TIDEGATE_AUTH__USER_CLAIM": user_claim, "PYTHONDONTWRITEBYTECODE": "1"}
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0].decode().strip()

    printed = [await output_of(tidegate, "subject", "{user}", "--user", user) for user in USERS]
    plain = [user if re.fullmatch(r"[\w=@:-]+", user, re.ASCII) else "refused" for user in USERS]
    differing = []
    for user_claim, wanted in (("sub", printed), ("", plain)):
        python = await output_of(sys.executable, "-c", PYTHON, *USERS, user_claim=user_claim)
        node = await output_of("node", "--input-type=module", "-e", NODE, *USERS, user_claim=user_claim)
        by_python, back = json.loads(python)
        tokens = zip(USERS, wanted, by_python, json.loads(node), strict=True)
        differing += [f"{user} is {ours}" for user, *ours in tokens if len(set(ours)) > 1]
        names = zip(USERS, back, strict=True)
        differing += [f"{user} is {name} again" for user, name in names if name not in (user, "refused")]
    return differing


class Programs:
    """Runs the programs of one system."""

    def __init__(self, folder: Path, url: str, options: argparse.Namespace) -> None:
        self.folder, self.count = folder, 0
        self.environment = os.environ | {
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NATS_URL": options.nats,
            "TIDEGATE_URL": "http" + url.removeprefix("ws"),
        }

    async def start(self, case: Case, code: str, token: str) -> asyncio.subprocess.Process:
        self.count += 1
        is_python = case.language == "python"
        file = self.folder / f"program{self.count}.{'py' if is_python else 'mjs'}"
        file.write_text("\n".join((case.before, code, case.after)), encoding="utf-8")
        command = [sys.executable, "-P", str(HERE / "python/program.py")] if is_python else ["node"]
        return await asyncio.create_subprocess_exec(
            *command,
            str(file),
            cwd=self.folder,
            env=self.environment | ({"TIDEGATE_TOKEN": token} if token else {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@contextlib.asynccontextmanager
async def connected(stage: kit.Stage, page: Page) -> AsyncIterator[kit.Socket]:
    """A page that has subscribed and has read all earlier messages."""
    token = stage.token(page.user, page.role, **CLAIMS) if page.user else ""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with stage.socket(page.path, additional_headers=headers) as socket:
        if page.sends:
            await socket.send(page.sends)
        if page.live:
            subject, members = page.live
            await socket.live(subject, **members)
        elif page.sends:
            await socket.raw()
        while True:
            try:
                await socket.raw(kit.QUIET_S)
            except kit.Wrong:
                break
        yield socket


def is_one(text: str, wanted: list[dict[str, object]]) -> dict[str, object] | None:
    """The wanted message that this one is. Members that are not in it, such as times, are compared by the frontends."""
    message = json.loads(text)
    return next((it for it in wanted if kit.same(it, {name: message.get(name) for name in it})), None)


async def expect(socket: kit.Socket, wanted: list[dict[str, object]]) -> None:
    """Waits for the messages, in any order, because there is none between subjects.

    Other messages may be those of another system, which runs at the same time and shares subjects such as `alerts`.
    """
    left, others = list(wanted), []
    while left:
        try:
            text = await socket.raw()
        except kit.Wrong as wrong:
            raise kit.Wrong(f"expected {kit.short(left)}, but {wrong}; got {kit.short(others)}") from None
        match = is_one(text, left)
        if match is None:
            others.append(text)
        else:
            left.remove(match)


async def no_more(socket: kit.Socket, unwanted: list[dict[str, object]]) -> None:
    """Checks that nothing arrives twice, nor at a page that should not have it."""
    while True:
        try:
            text = await socket.raw(kit.QUIET_S)
        except kit.Wrong:
            return
        if is_one(text, unwanted):
            raise kit.Wrong(f"got an unexpected message: {kit.short(text)}")


async def output(process: asyncio.subprocess.Process) -> str:
    out, errors = await asyncio.wait_for(process.communicate(), LIMIT_S)
    if process.returncode:
        raise kit.Wrong(f"the program failed: {errors.decode().strip().splitlines()[-1]}")
    return (out.decode().strip().splitlines() or [""])[-1]


async def run(case: Case, code: str, programs: Programs, stage: kit.Stage) -> None:
    token = stage.token(case.role, case.role, **CLAIMS) if case.role else ""
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connected(stage, page)) for page in case.pages]
        process = await programs.start(case, code, token)
        try:
            if case.stays:
                first = await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
                if first != b"ready\n":
                    await output(process)
            printed = None if case.stays else await output(process)
            for page, socket in zip(case.pages, sockets, strict=True):
                if page.asks:
                    await socket.send(page.asks)
                await expect(socket, page.wants)
                if not case.stays:
                    await no_more(socket, [wanted for other in case.pages for wanted in other.wants])
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        # The statistics may still count a page of the case before.
        deadline = asyncio.get_running_loop().time() + LIMIT_S
        while case.prints and printed != case.prints:
            if asyncio.get_running_loop().time() > deadline:
                raise kit.Wrong(f"expected the output {case.prints!r}, got {printed!r}")
            printed = await output(await programs.start(case, code, token))


async def system(seed: str, url: str, options: argparse.Namespace) -> list[str]:
    """Runs the cases of one system in order. Returns the failures."""
    number, cases = DOCUMENTS[seed]
    found = blocks(options.folder, number) if options.folder else []
    mine = [it for it in found if it.language in ("python", "javascript") and PUBLISHES.search(it.code)]
    mine = [it for it in mine if not OPENS.search(it.code)]
    wrong: list[str] = []

    def report(name: str, reason: str = "", notes: str = "") -> None:
        outcome = "FAIL" if reason else "ok"
        detail = f": {' '.join(reason.split())}" if reason else notes and f" ({notes})"
        print(f"{outcome} {seed} backend: {name}{detail}", flush=True)
        if reason:
            wrong.append(name)

    with tempfile.TemporaryDirectory(prefix="tidegate-backends-") as folder:
        installed(Path(folder))
        programs = Programs(Path(folder), url, options)
        nc = await kit.nats_client(options.nats)
        stage = kit.Stage(url, nc, options.secret)
        for case in cases:
            attempts = [(case.name, case.ours, "")]
            if options.folder and case.contains:
                block = next((it for it in mine if case.contains in it.code), None)
                if block:
                    mine.remove(block)
                    name = f"document {number}, lines {block.first}–{block.last}, unchanged"
                    attempts.append((name, block.code, "; ".join(case.notes)))
                else:
                    report(case.name, f"no block of document {number} has {case.contains!r}")
            for name, code, notes in attempts:
                try:
                    await asyncio.wait_for(run(case, code, programs, stage), 4 * LIMIT_S)
                except Exception as error:  # noqa: BLE001 - every exception is a failure of the case
                    report(name, str(error) if isinstance(error, kit.Wrong) else f"{type(error).__name__}: {error}")
                else:
                    report(name, notes=notes)
        await nc.close()
    for block in mine:
        report(f"document {number}, lines {block.first}–{block.last}", "python/backend_cases.py has no case for it")
    return wrong


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.print_usage(sys.stderr)
        self.exit(64, f"{self.prog}: {message}\n")


def address(text: str) -> tuple[str, str]:
    seed, _, url = text.partition("=")
    if seed not in DOCUMENTS or not url.startswith(("ws://", "wss://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not SEED=ws://…; the seeds are {', '.join(DOCUMENTS)}")
    return seed, url.rstrip("/")


async def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--nats", required=True, metavar="URL")
    parser.add_argument("--secret", required=True, metavar="TEXT")
    parser.add_argument("--tidegate", required=True, metavar="PATH")
    parser.add_argument("--ws", required=True, action="append", type=address, metavar="SEED=URL")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-backends-") as folder:
        differing = await encoded(options.tidegate, Path(folder))
    for what in differing:
        print(f"FAIL backend: the token of the user {what}, by tidegate, Python and JavaScript")
    missing = list(untested())
    for name in missing:
        print(f"FAIL backend: no case of python/backend_cases.py calls {name}, which the README names")
    failed = [differing, missing, *await asyncio.gather(*(system(seed, url, options) for seed, url in options.ws))]
    count = sum(map(len, failed))
    print(f"backends: {count} failed" if count else "backends: all ok")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
