"""Stock Agent (document 002): prices by symbol, alerts, signals, private messages, and calls between two users."""

import json

from kit import ANY_TEXT, SECONDS, AtLeast, Socket, Stage, Table, Text, Wrong, eventually, short

table = Table("stock-agent")

QUOTE = {"price": 185.5, "change": 2.3, "change_pct": 1.26, "volume": 45000000, "bid": 185.45, "ask": 185.55}
PONG = {"type": "pong", "timestamp": SECONDS}


CHANNELS = ["prices", "alerts", "signals", "portfolio", "notifications"]


class Page:
    """A page that has received the greeting."""

    def __init__(self, stage: Stage, client_id: str, token: str | None = None) -> None:
        self.client_id = client_id
        self._socket = stage.socket(f"/ws/{client_id}" + (f"?token={token}" if token else ""))

    async def __aenter__(self):
        socket = await self._socket.__aenter__()
        connected = {"type": "connected", "client_id": self.client_id, "timestamp": SECONDS}
        await socket.expect(connected | {"available_channels": CHANNELS})
        return socket

    async def __aexit__(self, *error: object) -> None:
        await self._socket.__aexit__(*error)


def subscribe(channel: str, **members: object) -> dict[str, object]:
    return {"type": "subscribe", "channel": channel, **members}


def unsubscribe(channel: str, **members: object) -> dict[str, object]:
    return {"type": "unsubscribe", "channel": channel, **members}


async def join(socket: Socket, channel: str, **members: object) -> None:
    """Subscribes. The answer says that the channel is live."""
    only, socket.only = socket.only, socket.only and '"type":"subscribed"'
    await socket.ask(subscribe(channel, **members), subscribed(channel, **members))
    socket.only = only


async def leave(socket: Socket, channel: str, **members: object) -> None:
    answer = {"type": "unsubscribed", "channel": channel, "timestamp": SECONDS}
    await socket.ask(unsubscribe(channel, **members), answer)


def subscribed(channel: str, **members: object) -> dict[str, object]:
    symbols = members.get("symbols", [] if channel == "prices" else None)
    servers = {"ice_servers": []} if channel == "webrtc" else {}
    return {"type": "subscribed", "channel": channel, "symbols": symbols, "timestamp": SECONDS} | servers


def update(symbol: str, data: object) -> dict[str, object]:
    return {"type": "price_update", "symbol": symbol, "data": data, "timestamp": SECONDS}


def error(text: object = ANY_TEXT) -> dict[str, object]:
    return {"type": "error", "error": text, "timestamp": SECONDS}


@table.row("/ws/{client_id}")
async def path(stage: Stage) -> None:
    async with Page(stage, stage.name("client-1")) as socket:
        await socket.quiet()
    await stage.refused("/ws/a/b", 404)


@table.row("prices with symbols")
async def prices(stage: Stage) -> None:
    aapl, msft, tsla = stage.name("AAPL"), stage.name("MSFT"), stage.name("TSLA")
    async with Page(stage, "test") as socket:
        await join(socket, "prices", symbols=[aapl])
        await socket.live(f"prices.{aapl}")
        # A second list is added to the first.
        await join(socket, "prices", symbols=[msft])
        await socket.live(f"prices.{msft}")
        await stage.publish(f"prices.{tsla}", QUOTE)
        for symbol in (aapl, msft):
            await stage.publish(f"prices.{symbol}", QUOTE)
            await socket.expect(update(symbol, QUOTE))
        await socket.quiet()


@table.row("prices without symbols: all of them, each once")
async def all_prices(stage: Stage) -> None:
    aapl, msft = stage.name("AAPL"), stage.name("MSFT")
    async with Page(stage, "test") as socket:
        socket.only = stage.tag
        await join(socket, "prices", symbols=[aapl])
        await join(socket, "prices")
        await socket.live(f"prices.{msft}")
        for symbol in (aapl, msft):
            await stage.publish(f"prices.{symbol}", {"price": 1})
            await socket.expect(update(symbol, {"price": 1}))
        await socket.quiet()


@table.row("symbols with a dot")
async def dotted(stage: Stage) -> None:
    aapl, brk, nse = stage.name("AAPL"), f"BRK.{stage.name('B')}", f"{stage.name('RELIANCE')}.NS"
    async with Page(stage, "test") as socket:
        await join(socket, "prices", symbols=[aapl, brk, nse])
        for symbol in (aapl, brk, nse):
            await stage.publish(f"prices.{symbol}", QUOTE)
            await socket.expect(update(symbol, QUOTE))
        await stage.publish(f"prices.{stage.name('RELIANCE')}.BO", QUOTE)
        await leave(socket, "prices", symbols=[brk])
        await stage.publish(f"prices.{brk}", QUOTE)
        await socket.quiet()
    async with Page(stage, "test") as socket:
        socket.only = stage.tag
        await join(socket, "prices")
        await stage.publish(f"prices.{nse}", {"price": 2})
        await socket.until(lambda: stage.publish(f"prices.{nse}", {"price": 2}), update(nse, {"price": 2}))


@table.row("1,200 symbols in one list")
async def many(stage: Stage) -> None:
    symbols = [stage.name(f"S{number}") for number in range(1200)]
    async with Page(stage, "test") as socket:
        await join(socket, "prices", symbols=symbols)
        for symbol in (symbols[0], symbols[-1]):
            await stage.publish(f"prices.{symbol}", QUOTE)
            await socket.expect(update(symbol, QUOTE))
        # Wrong symbols in a list are errors, and the others are joined. The list counts as one mistake, so the page
        # stays connected.
        await socket.send(subscribe("prices", symbols=[f"no symbol {number}" for number in range(40)] + ["MSFT"]))
        for _ in range(40):
            await socket.expect(error(Text("`symbols` has .+")))
        await socket.raw()
        await socket.ask({"type": "ping"}, PONG)


@table.row("the last prices arrive at once")
async def last_prices(stage: Stage) -> None:
    aapl, brk = stage.name("AAPL"), f"BRK.{stage.name('B')}"
    for symbol in (aapl, brk):
        await stage.publish(f"prices.{symbol}", QUOTE)

    # Every node keeps them from its start on, without a page.
    async def at_once() -> None:
        async with Page(stage, "test") as socket:
            # The answer follows when both symbols are live, so the first price may overtake it.
            socket.only = "price_update"
            await socket.send(subscribe("prices", symbols=[aapl, brk]))
            for symbol in (aapl, brk):
                await socket.expect(update(symbol, QUOTE), within_s=1)

    await eventually(at_once)


@table.row("a payload keeps its bytes")
async def as_it_is(stage: Stage) -> None:
    aapl = stage.name("AAPL")
    async with Page(stage, "test") as socket:
        await join(socket, "prices", symbols=[aapl])
        await socket.live(f"prices.{aapl}")
        quote = '{"price":185.50,"change":2.30,"big":12345678901234567890,"name":"\\u20b9 ₹"}'
        await stage.publish(f"prices.{aapl}", quote)
        text = await socket.raw()
        if f'"data":{quote}' not in text:
            raise Wrong(f"published {quote}, got {text}")
        await stage.publish(f"prices.{aapl}", 'closed "early" \\ today')
        await socket.expect(update(aapl, 'closed "early" \\ today'))


def pushed(channel: str, subject: str, kind: str, data: dict[str, object]) -> None:
    @table.row(f"{channel}: {subject}")
    async def row(stage: Stage) -> None:
        async with Page(stage, "browser-test") as socket:
            # The last message of another row may arrive first.
            socket.only = stage.tag
            await join(socket, channel)
            mine = data | {"tag": stage.tag}
            await stage.publish(subject, mine)
            await socket.expect({"type": kind, "data": mine, "timestamp": SECONDS})
            await socket.quiet()


ALERT = {
    "id": "alert-123",
    "symbol": "AAPL",
    "type": "price_threshold",
    "message": "AAPL crossed $185",
    "severity": "info",
}
pushed("alerts", "alerts", "alert_triggered", ALERT)
SIGNAL = {"symbol": "AAPL", "action": "buy", "confidence": 0.85, "reasoning": "Strong bullish momentum..."}
pushed("signals", "signals", "trading_signal", SIGNAL)
pushed("portfolio", "user.anonymous.portfolio", "portfolio_update", {"value": 100000})
NOTIFICATION = {"id": "notif-456", "message": "Model training completed", "type": "success"}
pushed("notifications", "system.notifications", "notification", NOTIFICATION)
pushed("notifications", "user.anonymous.notifications", "notification", NOTIFICATION)


@table.row("unsubscribe")
async def leaves(stage: Stage) -> None:
    aapl, msft = stage.name("AAPL"), stage.name("MSFT")
    async with Page(stage, "test") as socket:
        await join(socket, "alerts")
        await join(socket, "prices", symbols=[aapl, msft])
        for subject in (f"prices.{aapl}", f"prices.{msft}", "alerts"):
            await socket.live(subject)
        await leave(socket, "prices", symbols=[aapl])
        await socket.ask({"type": "ping"}, PONG)
        for symbol in (aapl, msft):
            await stage.publish(f"prices.{symbol}", QUOTE)
        await socket.expect(update(msft, QUOTE))
        await socket.quiet()
        await leave(socket, "prices")
        await socket.ask({"type": "ping"}, PONG)
        await stage.publish(f"prices.{msft}", QUOTE)
        await stage.publish("alerts", {"id": stage.tag})
        await socket.expect({"type": "alert_triggered", "data": {"id": stage.tag}, "timestamp": SECONDS})
        await socket.quiet()


@table.row("ping/pong")
async def ping(stage: Stage) -> None:
    async with Page(stage, "test") as socket:
        await socket.ask({"type": "ping"}, PONG)


@table.row("error")
async def errors(stage: Stage) -> None:
    async with Page(stage, "test") as socket:
        await socket.ask(subscribe("invalid_channel"), error("Unknown channel: invalid_channel"))
        await socket.ask(unsubscribe("invalid_channel"), error("Unknown channel: invalid_channel"))
        await socket.ask(subscribe("user.alice.portfolio"), error("Unknown channel: user.alice.portfolio"))
        await socket.ask(subscribe("prices", symbols=["*"]), error())
        await socket.ask({"type": "dance"}, error("Unknown message type: dance"))
        await socket.ask("{", error())


@table.row("compression of large messages")
async def compression(stage: Stage) -> None:
    async with Page(stage, "test") as socket:
        socket.only = stage.tag
        await join(socket, "signals")
        compressed = socket.compressed()
        large = SIGNAL | {"reasoning": "Strong bullish momentum ₹… " * 100, "tag": stage.tag}
        for data in (large, SIGNAL | {"tag": stage.tag}, large):
            await stage.publish("signals", data)
            await socket.expect({"type": "trading_signal", "data": data, "timestamp": SECONDS})
        if True not in compressed or False not in compressed:
            raise Wrong(f"large messages must be compressed, and small ones must not; got {short(compressed)}")


@table.row("a token in a message")
async def token(stage: Stage) -> None:
    alice, anonymous = stage.name("alice"), "user.anonymous.portfolio"
    async with Page(stage, stage.name("alices-laptop")) as socket:
        await join(socket, "portfolio", token=stage.token(alice))
        await socket.live(f"user.{alice}.portfolio")
        await stage.publish(anonymous, {"value": 6})
        await stage.publish(f"user.{alice}.portfolio", {"value": 5})
        await socket.expect({"type": "portfolio_update", "data": {"value": 5}, "timestamp": SECONDS})
        await socket.quiet()
        await socket.ask(subscribe("portfolio", token=stage.token(stage.name("bob"))), error())


@table.row("a token in the URL")
async def token_in_url(stage: Stage) -> None:
    alice = stage.name("alice")
    async with Page(stage, stage.name("alices-laptop"), stage.token(alice)) as socket:
        await join(socket, "portfolio")
        await stage.publish(f"user.{alice}.portfolio", {"value": 5})
        await socket.expect({"type": "portfolio_update", "data": {"value": 5}, "timestamp": SECONDS})
    await stage.refused("/ws/test?token=nonsense", 401)


@table.row("WebRTC signalling between two users")
async def webrtc(stage: Stage) -> None:
    alice, bob = stage.name("alice"), stage.name("bob")
    async with Page(stage, "a") as first, Page(stage, "b") as second, Page(stage, "c") as guest:
        for socket, user in ((first, alice), (second, bob)):
            await join(socket, "webrtc", token=stage.token(user))
            await socket.live(f"webrtc.{user}.somebody")
        await first.send({"type": "webrtc", "to": bob, "data": {"sdp": "offer"}})
        await second.expect({"type": "webrtc", "from": alice, "data": {"sdp": "offer"}, "timestamp": SECONDS})
        await second.send({"type": "webrtc", "to": alice, "data": {"sdp": "answer"}})
        await first.expect({"type": "webrtc", "from": bob, "data": {"sdp": "answer"}, "timestamp": SECONDS})
        await guest.ask({"type": "webrtc", "to": bob, "data": 1}, error())
        await guest.ask(subscribe("webrtc"), error())
        await first.ask({"type": "webrtc", "to": "*", "data": 1}, error())
        for socket in (first, second, guest):
            await socket.quiet()


@table.row("/ws/stats")
async def stats(stage: Stage) -> None:
    first, second, aapl, msft = (stage.name(it) for it in ("client-1", "client-2", "AAPL", "MSFT"))
    async with Page(stage, first) as one, Page(stage, second) as two:
        await join(one, "prices", symbols=[aapl, msft])
        await join(one, "alerts")
        await join(two, "signals")

        async def of(client: str, channels: list[str], symbols: list[str] | None) -> None:
            status, got = await stage.http("GET", "/ws/stats", stage.token("root", "admin"))
            members = ["total_connections", "clients", "channel_subscriptions", "symbol_subscriptions"]
            if status != 200 or not isinstance(got, dict) or list(got) != members:
                raise Wrong(f"GET /ws/stats as admin: expected 200 and {members}, got {status} {short(got)}")
            right = client in got["clients"] and got["channel_subscriptions"].get(client) == channels
            if not right or got["symbol_subscriptions"].get(client) != symbols or not got["total_connections"] >= 1:
                raise Wrong(
                    f"GET /ws/stats as admin: {client} with {channels} and {symbols} is not in {json.dumps(got)}"
                )

        await eventually(lambda: of(first, ["prices", "alerts"], [aapl, msft]))
        await eventually(lambda: of(second, ["signals"], None))
        counts = {
            "total_connections": AtLeast(0),
            "clients": [],
            "channel_subscriptions": {},
            "symbol_subscriptions": {},
        }
        await stage.answers(200, counts, "GET", "/ws/stats")


@table.row("/health")
async def health(stage: Stage) -> None:
    await stage.answers(200, {"status": "ok"}, "GET", "/health")
