"""Sentio (document 003): a socket for each stream, `action` in place of `type`, and REST for pages without a socket."""

import base64
from contextlib import AsyncExitStack

from kit import ANY_TEXT, NAIVE, NODES, Stage, Table, Wrong, eventually
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
# The limit of sockets for one user on one node in vocabularies/sentio.config.toml.
CONNECTIONS = 20
USERS = {"total_users": 150, "active_subscriptions": 120, "monthly_revenue": 15000.0}


def signal(symbol: str) -> dict[str, object]:
    return {"symbol": symbol, "signal": "buy", "confidence": 0.85, "timestamp": "2024-10-05T10:30:00"}


def signals(symbol: str) -> dict[str, object]:
    return {"type": "trade_signals", "data": [signal(symbol)], "timestamp": NAIVE}


def message(kind: str, data: object) -> dict[str, object]:
    return {"type": kind, "data": data, "timestamp": NAIVE}


def error(text: object = ANY_TEXT) -> dict[str, object]:
    return {"type": "error", "message": text, "timestamp": NAIVE}


def subscribe(stage: Stage, user: str, **members: object) -> dict[str, object]:
    """The page's first message, with the user's token."""
    return {"action": "subscribe", "user_id": user, "token": stage.token(user), **members}


async def done(socket) -> None:
    await socket.ask({"action": "ping"}, PONG)


@table.row("/ws/trade-signals: subscribe")
async def trade_signals(stage: Stage) -> None:
    user, aapl, googl, msft = (stage.name(it) for it in ("user_001", "AAPL", "GOOGL", "MSFT"))
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl, googl]))
        await socket.live(f"signals.{aapl}")
        await socket.live(f"signals.{googl}")
        await stage.publish(f"signals.{msft}", signal(msft))
        for symbol in (aapl, googl):
            await stage.publish(f"signals.{symbol}", signal(symbol))
            await socket.expect(signals(symbol))
        await socket.quiet()


@table.row("/ws/trade-signals: a list is published")
async def signal_list(stage: Stage) -> None:
    user, aapl, googl = (stage.name(it) for it in ("user_001", "AAPL", "GOOGL"))
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl]))
        await socket.live(f"signals.{aapl}")
        for published in ([signal(aapl)], [signal(aapl), signal(googl)]):
            await stage.publish(f"signals.{aapl}", published)
            await socket.expect(message("trade_signals", published))
        await socket.quiet()


@table.row("/ws/trade-signals: unsubscribe")
async def unsubscribe(stage: Stage) -> None:
    user, aapl, googl, msft = (stage.name(it) for it in ("user_001", "AAPL", "GOOGL", "MSFT"))
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl, googl]))
        await socket.live(f"signals.{aapl}")
        await socket.live(f"signals.{googl}")
        await socket.send({"action": "unsubscribe", "symbols": [aapl]})
        await done(socket)
        for symbol in (aapl, googl):
            await stage.publish(f"signals.{symbol}", signal(symbol))
        await socket.expect(signals(googl))
        await socket.quiet()
        await socket.send({"action": "unsubscribe"})
        await done(socket)
        await stage.publish(f"signals.{googl}", signal(googl))
        await socket.quiet()
        # Without symbols the page gets all symbols, also the last signals of other rows.
        socket.only = msft
        await socket.send({"action": "subscribe"})
        await socket.live(f"signals.{msft}")
        await stage.publish(f"signals.{msft}", signal(msft))
        await socket.expect(signals(msft))


@table.row("/ws/trade-signals: the last signal arrives at once")
async def last_signal(stage: Stage) -> None:
    user, aapl = stage.name("user_001"), stage.name("AAPL")

    async with AsyncExitStack() as pages:

        async def another():
            socket = await pages.enter_async_context(stage.socket("/ws/trade-signals"))
            await socket.send(subscribe(stage, user, symbols=[aapl]))
            return socket

        # A node has the last signal if a client is subscribed there. The load balancer may use another node next.
        async def at_once() -> None:
            await stage.publish(f"signals.{aapl}", signal(aapl))
            page = await another()
            await page.expect(signals(aapl), within_s=1)

        first = await another()
        await first.live(f"signals.{aapl}")
        await eventually(at_once)


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
        await socket.ask({"action": "subscribe", "admin_token": "admin-token"}, error())
        code = await socket.closed()
        if code != 4501:
            raise Wrong(f"a wrong admin_token: expected close code 4501, got {code}")


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
    user, aapl, googl = (stage.name(it) for it in ("user_001", "AAPL", "GOOGL"))
    async with stage.socket("/ws/market-data") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl]))
        await socket.live(f"market.{aapl}")
        await stage.publish(f"market.{aapl}", {"price": 190.1})
        await socket.expect(message("market_data", {"price": 190.1}))
        await socket.send({"action": "subscribe", "symbols": [googl]})
        await socket.live(f"market.{googl}")
        await socket.send({"action": "unsubscribe", "symbols": [aapl]})
        await done(socket)
        await stage.publish(f"market.{aapl}", {"price": 190.2})
        await stage.publish(f"market.{googl}", {"price": 5})
        await socket.expect(message("market_data", {"price": 5}))
        await socket.quiet()
        await socket.send({"action": "subscribe"})
        await socket.live(f"market.{aapl}")


@table.row("error")
async def errors(stage: Stage) -> None:
    user, other = stage.name("user_001"), stage.name("user_002")
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.ask({"action": "subscribe", "symbols": ["AAPL"], "user_id": user}, error())
        await socket.ask(subscribe(stage, user, symbols=["*"]), error())
        await socket.ask({"action": "dance"}, error("Unknown action: dance"))
        await socket.ask({"action": "subscribe", "symbols": ["AAPL"], "user_id": other}, error())
        await socket.ask({"action": "subscribe", "symbols": "AAPL"}, error())
        await socket.ask("{", error())


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
    user, aapl, googl = (stage.name(it) for it in ("user_001", "AAPL", "GOOGL"))
    path, token = f"/api/v1/dashboard/trade-signals?symbols={aapl},{googl},{stage.name('TSLA')}", stage.token(user)

    # Every node returns what one page is subscribed to.
    async def polled() -> None:
        wanted = {"signals": [signal(aapl), signal(googl)], "count": 2, "timestamp": NAIVE}
        await stage.answers(200, wanted, "GET", path, token=token)

    async with stage.socket("/ws/trade-signals") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl, googl]))
        for symbol in (aapl, googl):
            await socket.live(f"signals.{symbol}")
            await stage.publish(f"signals.{symbol}", signal(symbol))
            await socket.expect(signals(symbol))
        await eventually(polled)
    await stage.answers(400, ..., "GET", "/api/v1/dashboard/trade-signals?symbols=AAPL,*", token=token)
    await stage.answers(400, ..., "GET", "/api/v1/dashboard/trade-signals", token=token)
    await stage.answers(401, ..., "GET", path)


async def polls_its_own(stage: Stage, stream: str, payload: object, wanted: object) -> None:
    """Checks that polls of a user return on any node what a page of this user receives, and not to other users."""
    user, other = stage.name("user_001"), stage.name("user_002")
    path, token = f"/api/v1/dashboard/{stream}", stage.token(user)

    async def polled(call: str) -> None:
        await stage.answers(200, wanted, "GET", call, token=token)

    async with stage.socket(f"/ws/{stream}") as socket:
        await socket.send(subscribe(stage, user))
        await socket.live(f"user.{user}.{stream}")
        await stage.publish(f"user.{user}.{stream}", payload)
        await eventually(lambda: polled(f"{path}?user_id={user}"))
        await eventually(lambda: polled(path))
    await stage.answers(403, ..., "GET", f"{path}?user_id={user}", token=stage.token(other))
    await stage.answers(401, ..., "GET", path)


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
    token, path = stage.token(stage.name("root"), "admin"), "/api/v1/dashboard/admin/users"

    # A dashboard with a socket subscribes to admin.*. Nodes keep the values of one subject from the first call on.
    async def polled() -> None:
        await stage.publish("admin.users", USERS)
        await stage.answers(200, USERS, "GET", path, token=token)

    await eventually(polled)
    await stage.answers(404, ..., "GET", f"{path}-nothing", token=token)
    await stage.answers(400, ..., "GET", "/api/v1/dashboard/admin/%2A", token=token)
    await stage.answers(403, ..., "GET", path, token=stage.token(stage.name("user_001")))
    await stage.answers(401, ..., "GET", path)


@table.row("REST: market-data")
async def rest_market(stage: Stage) -> None:
    user, aapl, googl = (stage.name(it) for it in ("user_001", "AAPL", "GOOGL"))
    path, token = "/api/v1/dashboard/market-data", stage.token(user)
    call = f"{path}?symbols={aapl},{googl},{stage.name('TSLA')}"

    async def polled() -> None:
        wanted = {"market_data": [{"price": 190.1}, {"price": 5}], "count": 2, "timestamp": NAIVE}
        await stage.answers(200, wanted, "GET", call, token=token)

    async with stage.socket("/ws/market-data") as socket:
        await socket.send(subscribe(stage, user, symbols=[aapl, googl]))
        for symbol, price in ((aapl, 190.1), (googl, 5)):
            await socket.live(f"market.{symbol}")
            await stage.publish(f"market.{symbol}", {"price": price})
        await eventually(polled)
    await stage.answers(400, ..., "GET", f"{path}?symbols=AAPL,*", token=token)
    await stage.answers(400, ..., "GET", path, token=token)
    await stage.answers(401, ..., "GET", call)
