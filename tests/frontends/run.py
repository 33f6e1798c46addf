#!/usr/bin/env python3
"""Runs the frontends in Python against a Tidegate that serves vocabularies/SEED.config.toml.

    run.py --nats nats://127.0.0.1:4222 --secret TEXT --ws stock-agent=ws://127.0.0.1:8000 [--ws SEED=URL …] [--row TEXT]

Prints one line for each row: `ok SEED ROW`, `FAIL SEED ROW reason` or `skip SEED ROW reason`. The exit code is 0 if all
are ok, 1 if one failed, and 64 for bad usage. --secret is the text that the node has in TIDEGATE_AUTH__HMAC_SECRET.
--api-key is a key that the node has under [[auth.api_key]], with the role that the comment in the configuration names;
without it, rows that need a key are skipped. Pass --console if the node has `http.console` on. --row runs only the rows
whose name contains the text. --compatible runs only the rows of python/compatible.py, for a node with all switches of
its configuration on.
"""

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "python"))

import ara  # noqa: E402
import compatible  # noqa: E402
import financegpt  # noqa: E402
import financegpt_mcp  # noqa: E402
import financegpt_tools  # noqa: E402
import hoardrun  # noqa: E402
import kit  # noqa: E402
import sentio  # noqa: E402
import stock_agent  # noqa: E402

TABLES = {
    module.table.seed: module.table
    for module in (financegpt, financegpt_tools, financegpt_mcp, hoardrun, stock_agent, sentio, ara)
}
SWITCHES = {table.seed: table for table in compatible.TABLES}
ROW_LIMIT_S = 90


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.print_usage(sys.stderr)
        self.exit(64, f"{self.prog}: {message}\n")


def address(text: str) -> tuple[str, str]:
    seed, _, url = text.partition("=")
    if seed not in TABLES or not url.startswith(("ws://", "wss://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not SEED=ws://…; the seeds are {', '.join(TABLES)}")
    return seed, url.rstrip("/")


async def run(seed: str, url: str, options: argparse.Namespace) -> tuple[int, int]:
    passed = failed = 0
    for name, row in (SWITCHES if options.compatible else TABLES)[seed].rows:
        if options.row not in name:
            continue
        nc = await kit.nats_client(options.nats)
        try:
            await asyncio.wait_for(
                row(kit.Stage(url, nc, options.secret, options.console, options.api_key)), ROW_LIMIT_S
            )
        except kit.Skipped as reason:
            print(f"skip {seed} {name}: {reason}", flush=True)
        except Exception as error:  # noqa: BLE001 - every exception is a failure of the row
            failed += 1
            reason = str(error) if isinstance(error, kit.Wrong) else f"{type(error).__name__}: {error}"
            print(f"FAIL {seed} {name}: {' '.join(reason.split())}", flush=True)
        else:
            passed += 1
            print(f"ok {seed} {name}", flush=True)
        finally:
            await nc.close()
    return passed, failed


async def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", required=True, metavar="URL")
    parser.add_argument("--ws", required=True, action="append", type=address, metavar="SEED=URL")
    parser.add_argument("--secret", required=True, metavar="TEXT")
    parser.add_argument("--api-key", default="", metavar="TEXT")
    parser.add_argument("--row", default="", metavar="TEXT")
    parser.add_argument("--console", action="store_true")
    parser.add_argument("--compatible", action="store_true")
    options = parser.parse_args()
    results = [await run(seed, url, options) for seed, url in options.ws]
    passed, failed = (sum(column) for column in zip(*results, strict=True))
    print(f"frontends in Python: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
