#!/usr/bin/env python3
"""The acceptance test of Stock Agent's document, against a node with vocabularies/stock-agent.config.toml.

    python tests/acceptance/test_websocket.py

prints one line for each of the document's five tests, such as `✅ PASS - Connection`, or `❌ FAIL - Connection: reason`.
The exit code is 0 if all pass, and 1 if one fails. TIDEGATE_URL is the address of the node; the default is
ws://localhost:8000. For the prices, a backend must publish those of AAPL, such as `price_streaming_task` of
examples/backends/stock_agent.py. It needs the package `websockets`.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

try:
    from websockets.asyncio.client import ClientConnection, connect
except ImportError:
    sys.exit("error: the package websockets 14 or newer is missing: pip install websockets")

URL = os.environ.get("TIDEGATE_URL", "ws://localhost:8000").rstrip("/").replace("http", "ws", 1)
LIMIT_S = 5
UPDATES = 3
QUOTE = {"price", "change", "change_pct", "volume", "bid", "ask"}


async def message(socket: ClientConnection, kind: str) -> dict:
    """The next message of this type. Other messages may arrive before it."""
    try:
        async with asyncio.timeout(LIMIT_S):
            while (received := json.loads(await socket.recv()))["type"] != kind:
                assert received["type"] != "error", f"the node answered {received}"
    except TimeoutError:
        raise AssertionError(f"no {kind} within {LIMIT_S} s") from None
    assert received.get("timestamp"), f"{kind} has no timestamp"
    return received


async def send(socket: ClientConnection, **members: object) -> None:
    await socket.send(json.dumps(members))


async def subscribe(socket: ClientConnection, *symbols: str) -> dict:
    await send(socket, type="subscribe", channel="prices", symbols=symbols)
    return await message(socket, "subscribed")


async def connection() -> None:
    async with connect(f"{URL}/ws/test-client") as socket:
        welcome = await message(socket, "connected")
        assert welcome["client_id"] == "test-client", f"the welcome has the client {welcome['client_id']}"


async def subscription() -> None:
    async with connect(f"{URL}/ws/test-client") as socket:
        answer = await subscribe(socket, "AAPL", "MSFT")
        assert answer["channel"] == "prices", f"the answer has the channel {answer['channel']}"
        assert set(answer["symbols"]) == {"AAPL", "MSFT"}, f"the answer has the symbols {answer['symbols']}"
        await send(socket, type="unsubscribe", channel="prices")
        await message(socket, "unsubscribed")


async def prices() -> None:
    async with connect(f"{URL}/ws/test-client") as socket:
        await subscribe(socket, "AAPL")
        for _ in range(UPDATES):
            update = await message(socket, "price_update")
            assert update["symbol"] == "AAPL", f"a price of {update['symbol']}, which was not subscribed to"
        # The first is the last price before, perhaps of another producer.
        assert update["data"].keys() == QUOTE, f"a price with the members {', '.join(update['data'])}"


async def ping() -> None:
    async with connect(f"{URL}/ws/test-client") as socket:
        await send(socket, type="ping")
        await message(socket, "pong")


async def several() -> None:
    async def client(number: int, symbol: str) -> None:
        async with connect(f"{URL}/ws/client-{number}") as socket:
            welcome = await message(socket, "connected")
            assert welcome["client_id"] == f"client-{number}", f"client {number} is {welcome['client_id']}"
            await subscribe(socket, symbol)
            assert (await message(socket, "price_update"))["symbol"] == symbol, f"client {number} got another symbol"

    await asyncio.gather(*(client(number, symbol) for number, symbol in enumerate(("AAPL", "MSFT", "GOOGL"), 1)))


TESTS: dict[str, Callable[[], Awaitable[None]]] = {
    "Connection": connection,
    "Subscription": subscription,
    "Price Updates": prices,
    "Ping/Pong": ping,
    "Multiple Clients": several,
}


async def main() -> int:
    failed = 0
    for name, test in TESTS.items():
        try:
            await test()
        except Exception as error:  # noqa: BLE001 - every exception is a failure of the test
            failed += 1
            print(f"❌ FAIL - {name}: {error or type(error).__name__}")
        else:
            print(f"✅ PASS - {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
