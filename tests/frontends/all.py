#!/usr/bin/env python3
"""Starts nats-server and Tidegate with each configuration of vocabularies/, and runs all frontends against them.

    tests/frontends/all.py --tidegate target/debug/tidegate [--nodes 2] [--snippets FOLDER] [SEED …]
    tests/frontends/all.py --tidegate target/debug/tidegate --compatible [SEED …]

--nodes starts this number of nodes for each system, behind round_robin.py. --snippets also runs the snippets of the
documents in this folder (snippets.mjs, backends.py). With --trust-client-identity, only the snippets run, and the key
`trust_client_identity` of the configurations is set. --compatible starts one node of each system with every key set
that its configuration has commented out, as in the documents, and runs the rows for them (python/compatible.py). All
ports are free ones. The exit code is 0 if every row was ok, and 1 if not.
"""

import argparse
import contextlib
import hashlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# The user and role of the API key in each configuration.
KEYS = {"hoardrun": ("backend", "backend"), "sentio": ("admin", "admin"), "ara": ("trading-bot", "user")}
SEEDS = ["financegpt", "hoardrun", "stock-agent", "sentio", "ara", "graphql-ws"]
# The placeholder for the digest of an API key in the configurations.
NO_KEY = "0" * 64
READY_S = 15


def free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


@contextlib.contextmanager
def running(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | environment
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()


def ready(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"{url} does not answer:\n{log.read_text()}")


def switched_on(config: str) -> str:
    """The configuration with the keys that are commented out (lines of `#` and a key), and statistics with names."""
    return re.sub(r"(?m)^#(?=[\w\[])", "", config).replace('stats = "counts"', 'stats = "all"')


TESTS = ["Connection", "Subscription", "Price Updates", "Ping/Pong", "Multiple Clients"]


def accepted(python: str, nats: str, url: str, log: Path) -> bool:
    """Whether tests/acceptance prints the five lines of Stock Agent's document while its backend streams prices."""
    program = "import asyncio, stock_agent; asyncio.run(stock_agent.price_streaming_task())"
    backend = running([python, "-c", program], log, PYTHONPATH=str(ROOT / "examples/backends"), NATS_URL=nats)

    def lines(url: str) -> tuple[int, list[str]]:
        command = [python, str(ROOT / "tests/acceptance/test_websocket.py")]
        done = subprocess.run(command, env=os.environ | {"TIDEGATE_URL": url}, stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout.splitlines()

    with backend:
        passed = lines(url)
    ok = passed == (0, [f"✅ PASS - {test}" for test in TESTS])
    # Where no node listens, each of them fails.
    status, failed = lines(f"ws://127.0.0.1:{free_port()}")
    ok = ok and status == 1 and [it.partition(":")[0] for it in failed] == [f"❌ FAIL - {test}" for test in TESTS]
    print("ok stock-agent tests/acceptance" if ok else f"FAIL stock-agent tests/acceptance: {passed}, {failed}")
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, type=Path)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--snippets", type=Path, metavar="FOLDER")
    parser.add_argument("--trust-client-identity", action="store_true")
    parser.add_argument("--compatible", action="store_true")
    parser.add_argument(
        "--console", action="store_true", help="turn http.console on, for the page /ws/test of hoardrun"
    )
    parser.add_argument("seeds", nargs="*", metavar="SEED", help=", ".join(SEEDS))
    options = parser.parse_args()
    if options.trust_client_identity and not options.snippets:
        parser.error("--trust-client-identity needs --snippets")
    others = options.snippets or options.console or options.trust_client_identity
    if options.compatible and (options.nodes != 1 or others):
        parser.error("--compatible runs only its own rows, on one node: omit --nodes, --snippets and --console")
    tidegate = str(options.tidegate.resolve())
    nats_server = subprocess.run(
        [ROOT / "nats/get-nats-server.sh"], check=True, capture_output=True, text=True
    ).stdout.strip()
    nats_cli = subprocess.run(
        [ROOT / "nats/get-nats-cli.sh"], check=True, capture_output=True, text=True
    ).stdout.strip()
    python = subprocess.run(
        [HERE.parent / "setup.sh", "--python"], check=True, capture_output=True, text=True
    ).stdout.strip()
    pages = free_port()
    secret, api_key = secrets.token_hex(32), f"key-{secrets.token_hex(16)}"

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-frontends-")))
        nats_port, monitor = free_port(), free_port()
        nats = f"nats://127.0.0.1:{nats_port}"
        command = [nats_server, "-a", "127.0.0.1", "-p", str(nats_port), "-m", str(monitor)]
        process = stack.enter_context(running(command, folder / "nats.log"))
        ready(f"http://127.0.0.1:{monitor}/healthz", process, folder / "nats.log")

        def node(seed: str, number: int) -> dict[str, int]:
            """Starts one more node. Returns its ports: that of its pages, and that of its second listener if it has
            one, which has two protocols."""
            ports = {"8000": free_port(), "9001": free_port()}
            config = (ROOT / f"vocabularies/{seed}.config.toml").read_text()
            for old, new in ports.items():
                config = config.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
            if options.trust_client_identity:
                config = config.replace("\n#trust_client_identity = ", "\ntrust_client_identity = ")
                config = re.sub(
                    r'(?m)^#\[\[role\]\]\n#name = "unverified"\n(#.*\n)+', lambda it: it[0].replace("#", ""), config
                )
            digest = hashlib.sha256(api_key.encode()).hexdigest()
            if options.compatible:
                config = switched_on(config).replace(NO_KEY, digest)
            elif user := KEYS.get(seed):
                name, role = user
                config = config.replace("#api_keys = true", "api_keys = true")
                config += (
                    f'\n[[auth.api_key]]\nname = "{name}"\nsha256 = "{digest}"\nuser = "{name}"\nrole = "{role}"\n'
                )
            if seed == "sentio" and "\ntrust_client_identity" in config:
                # A client without a credential has this role at once, so its message could no longer name its user.
                config = config.replace('\nanonymous_role = "guest"', "")
            file = folder / f"{seed}-{number}.toml"
            file.write_text(config)
            log = folder / f"{seed}-{number}.log"
            # No client is left when a node ends, so it need not drain.
            settings = [
                f"nats.url={nats}",
                "server.drain_s=0",
                # The pages of the test, and the page of the node itself.
                f"http.allowed_origins=http://127.0.0.1:{pages}",
                f"http.public_url=http://127.0.0.1:{ports['8000']}",
                *["http.console=true"] * options.console,
            ]
            command = [tidegate, "serve", "--config", str(file)]
            command += [argument for setting in settings for argument in ("--set", setting)]
            process = stack.enter_context(running(command, log, TIDEGATE_AUTH__HMAC_SECRET=secret))
            ready(f"http://127.0.0.1:{ports['8000']}/readyz", process, log)
            second = [f"{seed}-tools", f"{seed}-mcp"] if str(ports["9001"]) in config else []
            return {seed: ports["8000"]} | dict.fromkeys(second, ports["9001"])

        def balanced(seed: str, ports: list[int]) -> int:
            if len(ports) == 1:
                return ports[0]
            log = folder / f"{seed}-balancer.log"
            to = [argument for port in ports for argument in ("--to", f"127.0.0.1:{port}")]
            stack.enter_context(running([sys.executable, str(HERE / "round_robin.py"), *to], log))
            deadline = time.monotonic() + READY_S
            while not log.read_text().strip():
                if time.monotonic() > deadline:
                    sys.exit("round_robin.py does not start")
                time.sleep(0.05)
            return int(log.read_text().split()[0])

        addresses: dict[str, str] = {}
        each: list[str] = []
        for seed in options.seeds or (SEEDS[:5] if options.compatible else SEEDS):
            nodes = [node(seed, number) for number in range(options.nodes)]
            each += [argument for ports in nodes for argument in ("--node", f"{seed}=ws://127.0.0.1:{ports[seed]}")]
            for name in nodes[0]:
                addresses[name] = f"ws://127.0.0.1:{balanced(name, [ports[name] for ports in nodes])}"

        def run(program: list[str], seeds: dict[str, str]) -> bool:
            if not seeds:
                return True
            where = [argument for seed, url in seeds.items() for argument in ("--ws", f"{seed}={url}")]
            done = subprocess.run([*program, "--nats", nats, "--secret", secret, *where], cwd=ROOT)
            return done.returncode == 0

        documented = {seed: url for seed, url in addresses.items() if seed in SEEDS[:5]}
        in_python = {seed: url for seed, url in addresses.items() if seed != "graphql-ws"}
        in_javascript = {seed: url for seed, url in addresses.items() if not seed.endswith("-tools")}
        folder_of_documents = [str(options.snippets.resolve())] if options.snippets else []
        switches = ["--api-key", api_key, *["--console"] * options.console]
        if options.compatible:
            switched = [python, str(HERE / "run.py"), *switches, "--compatible"]
            return 0 if run(switched, in_python) else 1
        results = (
            []
            if options.trust_client_identity
            else [
                run([python, str(HERE / "run.py"), *switches], in_python),
                run(["node", str(HERE / "run.mjs"), "--pages-port", str(pages), *switches, *each], in_javascript),
                run([python, str(HERE / "nats_lines.py"), "--cli", nats_cli], in_python),
                run([python, str(HERE / "backends.py"), "--tidegate", tidegate, *folder_of_documents], documented),
            ]
        )
        if "stock-agent" in addresses and not options.trust_client_identity:
            results.append(accepted(python, nats, addresses["stock-agent"], folder / "prices.log"))
        if options.snippets:
            program = [
                "node",
                str(HERE / "snippets.mjs"),
                str(options.snippets),
                "--pages-port",
                str(pages),
                "--python",
                python,
                *["--trust-client-identity"] * options.trust_client_identity,
            ]
            results.append(run(program, documented))
        return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
