"""Sentio (document 003): a socket for each stream, `action` in place of `type`, and REST for pages without a socket."""

import base64
import json
from contextlib import AsyncExitStack

from kit import ANY_TEXT, NAIVE, NODES, Socket, Stage, Table, Wrong, eventually
from websockets.exceptions import InvalidStatus

table = Table("sentio")

PONG = {"type": "pong", "timestamp": NAIVE}
EARNINGS = {"portfolio_value": 100000.0, "total_return": 5000.0, "daily_pnl": 250.0, "win_rate": 0.65}
NOTIFICATION = {
    "type": "success",
    "title": "Trade Executed",
    "message": "Your AAPL buy order has been executed",
    "timestamp": "2024-10-05T10:30:00",
}
QUOTE = {"price": 190.1, "change": 0.5, "change_pct": 0.3, "high": 191, "low": 189, "volume": 1000000}
# The limit of sockets for one user on one node in vocabularies/sentio.config.toml.
CONNECTIONS = 20
USERS = {"total_users": 150, "active_subscriptions": 120, "monthly_revenue": 15000.0}


def signal(symbol: str) -> dict[str, object]:
    return {"symbol": symbol, "signal": "buy", "confidence": 0.85, "timestamp": "2024-10-05T10:30:00"}


def signals(*symbols: str, **members: object) -> dict[str, object]:
    """A message with a signal for each of these symbols, in this order."""
    return message("trade_signals", [signal(it) | members for it in symbols])


def message(kind: str, data: object) -> dict[str, object]:
    return {"type": kind, "data": data, "timestamp": NAIVE}


def quote(symbol: str, **members: object) -> dict[str, object]:
    return {"symbol": symbol} | QUOTE | members


def symbols(stage: Stage, *names: str) -> list[str]:
    """Unique symbols, in capitals as all symbols of Sentio."""
    return [stage.name(name).upper() for name in names]


def error(text: object = ANY_TEXT) -> dict[str, object]:
    return {"type": "error", "message": text, "timestamp": NAIVE}


def subscribe(stage: Stage, user: str, **members: object) -> dict[str, object]:
    """The page's first message, with the user's token."""
    return {"action": "subscribe", "user_id": user, "token": stage.token(user), **members}


async def done(socket) -> None:
    await socket.ask({"action": "ping"}, PONG)


async def shows(stage: Stage, socket: Socket, *symbols: str) -> None:
    """Publishes a signal for each symbol until the page gets the list of all of them, so that all are live."""

    async def publish() -> None:
        for symbol in symbols:
            await stage.publish(f"signals.{symbol}", signal(symbol))

    await socket.until(publish, signals(*symbols))


@table.row("/ws/trade-signals: subscribe")
async def trade_signals(stage: Stage) -> None:
    user = stage.name("user_001")
    aapl, googl, brk, msft = symbols(stage, "AAPL", "GOOGL", "BRK.B", "MSFT")
    async with stage.socket("/ws/trade-signals") as socket:
        # Small letters find their symbols, and symbols may have dots.
        await socket.send(subscribe(stage, user, symbols=[aapl.lower(), googl, brk]))
        await shows(stage, socket, aapl, googl, brk)
        # Each message has the newest signal of each of the page's symbols.
        await stage.publish(f"signals.{msft}", signal(msft))
        await stage.publish(f"signals.{googl}", signal(googl) | {"signal": "sell"})
        wanted = [signal(aapl), signal(googl) | {"signal": "sell"}, signal(brk)]
        await socket.expect(message("trade_signals", wanted))
        await socket.quiet()


@table.row("/ws/trade-signals: a list is published")
async def signal_list(stage: Stage) -> None:
    user = stage.name("user_001")
    aapl, googl, msft = symbols(stage, "AAPL", "GOOGL", "MSFT")
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl, googl]))
        published = [signal(googl), signal(msft), signal(aapl)]
        await socket.until(lambda: stage.publish("signals", published), signals(aapl, googl))
        # A list of one symbol, on the symbol's own subject.
        await stage.publish(f"signals.{aapl}", [signal(aapl) | {"signal": "hold"}])
        await socket.expect(message("trade_signals", [signal(aapl) | {"signal": "hold"}, signal(googl)]))
        # A list without a signal for this page, and an empty one, send nothing.
        for subject, payload in (("signals", [signal(msft)]), ("signals", []), (f"signals.{aapl}", [])):
            await stage.publish(subject, payload)
        await socket.quiet()


@table.row("/ws/trade-signals: unsubscribe")
async def unsubscribe(stage: Stage) -> None:
    user = stage.name("user_001")
    aapl, googl, msft = symbols(stage, "AAPL", "GOOGL", "MSFT")
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl, googl]))
        await shows(stage, socket, aapl, googl)
        await socket.send({"action": "unsubscribe", "symbols": [aapl]})
        await done(socket)
        for symbol in (aapl, googl):
            await stage.publish(f"signals.{symbol}", signal(symbol) | {"signal": "hold"})
        await socket.expect(signals(googl, signal="hold"))
        await socket.quiet()
        await socket.send({"action": "unsubscribe"})
        await done(socket)
        await stage.publish(f"signals.{googl}", signal(googl))
        await socket.quiet()


@table.row("/ws/trade-signals: without symbols")
async def all_signals(stage: Stage) -> None:
    user = stage.name("user_001")
    aapl, brk = symbols(stage, "AAPL", "BRK.B")
    for members in ({}, {"symbols": []}):
        async with stage.socket("/ws/trade-signals") as socket:
            await socket.send(subscribe(stage, user, **members))

            # The page gets the signals of all symbols, also those of other rows.
            def has_both(text: str) -> bool:
                data = json.loads(text)["data"]
                return all(signal(symbol) in data for symbol in (aapl, brk))

            async def publish() -> None:
                await stage.publish("signals", [signal(aapl)])
                await stage.publish(f"signals.{brk}", signal(brk))

            await socket.until(publish, has_both)


@table.row("/ws/trade-signals: the last signals arrive at once, in one message")
async def last_signal(stage: Stage) -> None:
    user = stage.name("user_001")
    aapl, googl = symbols(stage, "AAPL", "GOOGL")
    for symbol in (aapl, googl):
        await stage.publish(f"signals.{symbol}", signal(symbol))

    # Every node keeps them from its start on, without a page.
    async def at_once() -> None:
        async with stage.socket("/ws/trade-signals") as socket:
            await socket.send(subscribe(stage, user, symbols=[aapl, googl]))
            await socket.expect(signals(aapl, googl), within_s=1)
            await socket.quiet()

    await eventually(at_once)


@table.row("a page without a token")
async def guest(stage: Stage) -> None:
    user = stage.name("user_001")
    (aapl,) = symbols(stage, "AAPL")
    async with stage.socket("/ws/trade-signals") as socket:
        # The user that it names is ignored.
        await socket.send({"action": "subscribe", "symbols": [aapl], "user_id": user})
        await shows(stage, socket, aapl)
    async with stage.socket("/ws/notifications") as socket:
        await socket.ask({"action": "subscribe", "user_id": user}, error())
        await stage.publish(f"user.{user}.notifications", {"title": "not yours"})
        await socket.quiet()
    async with stage.socket("/ws/admin") as socket:
        await socket.ask({"action": "subscribe"}, error())


@table.row("ping")
async def ping(stage: Stage) -> None:
    user = stage.name("user_001")
    for path in ("trade-signals", "earnings", "notifications", "admin", "market-data"):
        async with stage.socket(f"/ws/{path}") as socket:
            await socket.ask({"action": "ping"}, PONG)
    async with stage.socket("/ws/earnings") as socket:
        await socket.send(subscribe(stage, user))
        await socket.ask({"action": "ping"}, PONG)


def own(path: str, subject: str, kind: str, data: dict[str, object]) -> None:
    @table.row(f"/ws/{path}")
    async def row(stage: Stage) -> None:
        user, other = stage.name("user_001"), stage.name("user_002")
        async with stage.socket(f"/ws/{path}") as socket:
            await socket.send(subscribe(stage, user))
            await socket.live(f"user.{user}.{subject}")
            await stage.publish(f"user.{other}.{subject}", {"not": "yours"})
            await stage.publish(f"user.{user}.{subject}", data)
            await socket.expect(message(kind, data))
            await socket.send({"action": "unsubscribe"})
            await done(socket)
            await stage.publish(f"user.{user}.{subject}", data)
            await socket.quiet()


own("earnings", "earnings", "earnings", EARNINGS)
own("notifications", "notifications", "notification", NOTIFICATION)


@table.row("/ws/admin with admin_token")
async def admin(stage: Stage) -> None:
    async with stage.socket("/ws/admin") as socket:
        # The last messages of other rows arrive too.
        socket.only = stage.tag
        await socket.send({"action": "subscribe", "admin_token": stage.token(stage.name("root"), "admin")})
        await socket.live("admin.users")
        await socket.live("admin.revenue")
        for what, data in (("users", USERS), ("revenue", {"monthly_revenue": 15000.0})):
            mine = data | {"tag": stage.tag}
            await stage.publish(f"admin.{what}", mine)
            await socket.expect(message(f"admin_{what}", mine))
        await socket.quiet()


@table.row("/ws/admin without the right")
async def not_admin(stage: Stage) -> None:
    async with stage.socket("/ws/admin") as socket:
        await socket.ask({"action": "subscribe", "admin_token": stage.token(stage.name("user_001"))}, error())
        await stage.publish("admin.users", USERS)
        await socket.quiet()
    async with stage.socket("/ws/admin") as socket:
        # With a wrong token, the page stays one without a token.
        await socket.ask({"action": "subscribe", "admin_token": "admin-token"}, error())
        await socket.ask({"action": "subscribe"}, error())
        await stage.publish("admin.users", USERS)
        await socket.quiet()


@table.row("/ws/admin with an API key")
async def admin_key(stage: Stage) -> None:
    async with stage.socket("/ws/admin") as socket:
        socket.only = stage.tag
        await socket.send({"action": "subscribe", "admin_token": stage.key()})
        await socket.live("admin.users")
        await stage.publish("admin.users", USERS | {"tag": stage.tag})
        await socket.expect(message("admin_users", USERS | {"tag": stage.tag}))


@table.row("/ws/market-data")
async def market(stage: Stage) -> None:
    user = stage.name("user_001")
    aapl, brk = symbols(stage, "AAPL", "BRK.B")
    async with stage.socket("/ws/market-data") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl.lower()]))
        await socket.live(f"prices.{aapl}")
        await socket.live(f"market.{aapl}")
        await stage.publish(f"prices.{aapl}", quote(aapl))
        await socket.expect(message("update", [quote(aapl)]))
        await stage.publish(f"market.{aapl}", quote(aapl, price=190.3))
        await socket.expect(message("update", [quote(aapl, price=190.3)]))
        await socket.send({"action": "subscribe", "symbols": [brk]})
        await socket.live(f"prices.{brk}")
        await socket.send({"action": "unsubscribe", "symbols": [aapl]})
        await done(socket)
        await stage.publish(f"prices.{aapl}", quote(aapl, price=190.2))
        # Tidegate writes the symbol if the producer has not.
        await stage.publish(f"prices.{brk}", QUOTE)
        await socket.expect(message("update", [quote(brk)]))
        await socket.quiet()
        await socket.send({"action": "subscribe"})
        await socket.live(f"prices.{aapl}")


@table.row("error")
async def errors(stage: Stage) -> None:
    user, other = stage.name("user_001"), stage.name("user_002")
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.ask(subscribe(stage, user, symbols=["*"]), error())
        await socket.ask({"action": "dance"}, error("Unknown action: dance"))
        await socket.ask({"action": "subscribe", "symbols": ["AAPL"], "user_id": other}, error())
        await socket.ask({"action": "subscribe", "symbols": "AAPL"}, error())
        # As on the public server, text that is no JSON ends the connection.
        await socket.send("{")
        code = await socket.closed()
        if code != 4400:
            raise Wrong(f"text that is no JSON: expected close code 4400, got {code}")


@table.row("filter")
async def filters(stage: Stage) -> None:
    user = stage.name("user_001")
    subject, filtered = f"user.{user}.notifications", {"type": "filtered", "timestamp": NAIVE}
    async with stage.socket("/ws/notifications") as socket:
        await socket.send(subscribe(stage, user))
        await socket.live(subject)
        for chosen, shown in (
            ({"types": ["error", "warning"]}, ["error"]),
            ({"not_types": ["info"]}, ["error", "success"]),
        ):
            await socket.ask({"action": "filter"} | chosen, filtered)
            for kind in ("info", "error", "success"):
                await stage.publish(subject, NOTIFICATION | {"type": kind})
            for kind in shown:
                await socket.expect(message("notification", NOTIFICATION | {"type": kind}))
            await socket.quiet()


@table.row("connection limits for one user on one node")
async def connections(stage: Stage) -> None:
    user, at_most = stage.name("user_001"), CONNECTIONS * NODES
    shown = {"additional_headers": {"Authorization": f"Bearer {stage.token(user)}"}}
    async with AsyncExitStack() as pages:
        # With the token in the handshake, the handshake is rejected.
        for opened in range(at_most + 1):
            try:
                await pages.enter_async_context(stage.socket("/ws/earnings", **shown))
            except InvalidStatus as refusal:
                status = refusal.response.status_code
                if status != 429 or opened < CONNECTIONS:
                    raise Wrong(f"socket {opened + 1}: {status}; expected 429 after {CONNECTIONS}") from None
                break
        else:
            raise Wrong(f"a user opened {at_most + 1} sockets")
        # With the token in a message, the session is closed.
        for _ in range(at_most + 1):
            socket = await pages.enter_async_context(stage.socket("/ws/earnings"))
            await socket.send(subscribe(stage, user))
            try:
                await done(socket)
            except Wrong:
                code = await socket.closed()
                if code != 4508:
                    raise Wrong(f"expected close code 4508, got {code}") from None
                break
        else:
            raise Wrong(f"a user opened {at_most + 1} more sockets")
        async with stage.socket("/ws/earnings") as socket:
            await socket.send(subscribe(stage, stage.name("user_002")))
            await done(socket)


@table.row("a token as a subprotocol")
async def subprotocol(stage: Stage) -> None:
    user = stage.name("test_user")
    bearer = base64.urlsafe_b64encode(stage.token(user).encode()).rstrip(b"=").decode()
    async with stage.socket("/ws/notifications", subprotocols=["sentio", f"base64url.bearer.{bearer}"]) as socket:
        if socket.connection.subprotocol != "sentio":
            raise Wrong(f"the subprotocol is {socket.connection.subprotocol}, not sentio")
        await socket.send({"action": "subscribe", "user_id": user})
        await socket.live(f"user.{user}.notifications")


@table.row("REST: trade-signals")
async def rest_signals(stage: Stage) -> None:
    user, path = stage.name("user_001"), "/api/v1/dashboard/trade-signals"
    aapl, googl, tsla = symbols(stage, "AAPL", "BRK.B", "TSLA")
    token = stage.token(user)
    wanted = {"signals": [signal(aapl), signal(googl)], "count": 2, "timestamp": NAIVE}

    # No page has subscribed before, and the first poll finds the signals, however they were published.
    await stage.publish(f"signals.{aapl}", [signal(aapl)])
    await stage.publish(f"signals.{googl}", signal(googl))

    async def polled() -> None:
        for query in (f"symbols={aapl},{googl.lower()},{tsla}", f"symbols[]={aapl}&symbols[]={googl}"):
            await stage.answers(200, wanted, "GET", f"{path}?{query}", token=token)

    await eventually(polled)

    # Without symbols: all, also those of other rows.
    async def everything() -> None:
        status, got = await stage.http("GET", path, token)
        if status != 200 or any(signal(it) not in got["signals"] for it in (aapl, googl)):
            raise Wrong(f"GET {path}: {status} {got}")

    await eventually(everything)
    await stage.publish("signals", [])
    await eventually(polled)
    await stage.answers(400, ..., "GET", f"{path}?symbols=AAPL,*", token=token)
    # A page without a token polls them too.
    await stage.answers(200, wanted, "GET", f"{path}?symbols={aapl},{googl}")


async def polls_its_own(stage: Stage, stream: str, payload: object, wanted: object) -> None:
    """Checks that polls of a user return what was published for this user, on any node, and not to other users."""
    user, other = stage.name("user_001"), stage.name("user_002")
    path, token = f"/api/v1/dashboard/{stream}", stage.token(user)

    async def polled(call: str) -> None:
        await stage.answers(200, wanted, "GET", call, token=token)

    # No page is subscribed.
    await stage.publish(f"user.{user}.{stream}", payload)
    await eventually(lambda: polled(f"{path}?user_id={user}"))
    await eventually(lambda: polled(path))
    await stage.answers(403, ..., "GET", f"{path}?user_id={user}", token=stage.token(other))
    await stage.answers(403, ..., "GET", path)


@table.row("REST: earnings")
async def rest_earnings(stage: Stage) -> None:
    await polls_its_own(stage, "earnings", EARNINGS, EARNINGS)
    other = stage.token(stage.name("user_002"))
    await stage.answers(404, ..., "GET", "/api/v1/dashboard/earnings", token=other)


@table.row("REST: notifications")
async def rest_notifications(stage: Stage) -> None:
    wanted = {"notifications": [NOTIFICATION], "count": 1, "timestamp": NAIVE}
    await polls_its_own(stage, "notifications", NOTIFICATION, wanted)
    none, other = {"notifications": [], "count": 0, "timestamp": NAIVE}, stage.token(stage.name("user_002"))
    await stage.answers(200, none, "GET", "/api/v1/dashboard/notifications", token=other)


@table.row("REST: admin")
async def rest_admin(stage: Stage) -> None:
    token, path = stage.token(stage.name("root"), "admin"), "/api/v1/dashboard/admin"
    revenue = {"monthly_recurring_revenue": 15000.0, "tag": stage.tag}
    await stage.publish("admin.users", USERS)
    await stage.publish("admin.revenue", revenue)

    async def polled() -> None:
        await stage.answers(200, USERS, "GET", f"{path}/users", token=token)
        # The paths of the public pages.
        await stage.answers(200, USERS, "GET", "/api/v1/admin/users", token=token)
        await stage.answers(200, revenue, "GET", "/api/v1/admin/analytics/revenue", token=token)

    await eventually(polled)
    await stage.answers(404, ..., "GET", f"{path}/users-nothing", token=token)
    await stage.answers(400, ..., "GET", f"{path}/%2A", token=token)
    await stage.answers(403, ..., "GET", f"{path}/users", token=stage.token(stage.name("user_001")))
    await stage.answers(403, ..., "GET", f"{path}/users")


@table.row("REST: market-data")
async def rest_market(stage: Stage) -> None:
    user, path = stage.name("user_001"), "/api/v1/dashboard/market-data"
    aapl, brk, tsla = symbols(stage, "AAPL", "BRK.B", "TSLA")
    token = stage.token(user)
    await stage.publish(f"prices.{aapl}", quote(aapl))
    await stage.publish(f"market.{brk}", QUOTE)

    async def polled() -> None:
        # The list has quotes as they were published, here without a symbol.
        wanted = {"market_data": [quote(aapl), QUOTE], "count": 2, "timestamp": NAIVE}
        for query in (f"symbols={aapl.lower()},{brk},{tsla}", f"symbols[]={aapl}&symbols[]={brk}"):
            await stage.answers(200, wanted, "GET", f"{path}?{query}", token=token)
        for symbol in (aapl, brk):
            one = {"status": "success", "quote": quote(symbol)}
            await stage.answers(200, one, "GET", f"/api/v1/market/quote/{symbol.lower()}")

    await eventually(polled)
    await stage.publish(f"market.{aapl}", quote(aapl, price=1))

    async def both() -> None:
        wanted = {"market_data": [quote(aapl), quote(aapl, price=1)], "count": 2, "timestamp": NAIVE}
        await stage.answers(200, wanted, "GET", f"{path}?symbols={aapl}")
        one = {"status": "success", "quote": quote(aapl)}
        await stage.answers(200, one, "GET", f"/api/v1/market/quote/{aapl}")

    await eventually(both)
    await stage.answers(400, ..., "GET", f"{path}?symbols=AAPL,*", token=token)
    await stage.answers(404, ..., "GET", f"/api/v1/market/quote/{tsla}", token=token)
