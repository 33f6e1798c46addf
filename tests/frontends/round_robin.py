#!/usr/bin/env python3
"""A plain TCP load balancer: each new connection goes to the next node.

    round_robin.py --listen 0 --to 127.0.0.1:8001 --to 127.0.0.1:8002

The first line of its output is the port that it listens on. It ends with SIGINT or SIGTERM. It skips nodes that refuse
connections.
"""

import argparse
import asyncio
import contextlib
import itertools
import signal
from asyncio import StreamReader, StreamWriter


async def copy(reader: StreamReader, writer: StreamWriter) -> None:
    """Copies bytes in one direction until it ends. The other direction may continue."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="on 127.0.0.1; 0 for a free port")
    parser.add_argument("--to", action="append", required=True, metavar="HOST:PORT")
    options = parser.parse_args()
    nodes = itertools.cycle(options.to)

    async def balance(reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.closing(writer):
            for node in itertools.islice(nodes, len(options.to)):
                host, _, port = node.rpartition(":")
                try:
                    upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
                except OSError:
                    continue
                with contextlib.closing(upstream_writer):
                    await asyncio.gather(copy(reader, upstream_writer), copy(upstream_reader, writer))
                return

    server = await asyncio.start_server(balance, "127.0.0.1", options.listen)
    print(server.sockets[0].getsockname()[1], flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
