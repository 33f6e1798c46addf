"""The effects of the keys that are commented out in vocabularies/*.config.toml: a node behaves as in the documents.

The node has every one of them set, as `all.py --compatible` starts it. What is refused without
them is in the rows of each system.
"""

import asyncio

import ara
import financegpt
import financegpt_mcp
import financegpt_tools
import hoardrun
import sentio
import stock_agent
from kit import SECONDS, Stage, Table, Wrong, eventually, short

# Longer than `max_rate_ms = 1000`, so that the next publication is delivered at once.
RATE_S = 1.2

TABLES = [
    Table(module.table.seed)
    for module in (financegpt, financegpt_tools, financegpt_mcp, hoardrun, stock_agent, sentio, ara)
]
FINANCEGPT, TOOLS, MCP, HOARDRUN, STOCK_AGENT, SENTIO, ARA = TABLES


@FINANCEGPT.row("trust_client_identity: a page is the user that its path names")
async def trusted_path(stage: Stage) -> None:
    user, other = stage.name("USR001"), stage.name("USR002")
    balance = f"finance.{user}.balance"
    async with stage.socket(f"/ws/{user}") as socket, stage.service(balance, lambda *_: 45000.5) as asked:
        await socket.expect(financegpt.greeting(user))
        await socket.live(f"user.{user}.fraud_alert")
        await stage.publish(f"user.{other}.fraud_alert", {"message": "not yours"})
        await stage.publish(f"user.{user}.fraud_alert", {"message": "Block card?"})
        await socket.expect({"type": "fraud_alert", "message": "Block card?"})
        await socket.ask({"type": "get_balance"}, {"balance": 45000.5})
        if [subject for subject, _ in asked] != [balance]:
            raise Wrong(f"the service was asked {short(asked)}")
        await socket.quiet()
    # A token takes precedence over the path.
    await stage.refused(f"/ws/{user}?token={stage.token(other)}", 403)


@FINANCEGPT.row("replace_connections: the second socket of a user replaces the first")
async def replaced(stage: Stage) -> None:
    # This is before the row with prices, which every page gets.
    user, other = stage.name("USR001"), stage.name("USR002")
    async with (
        financegpt.page(stage, user) as first,
        financegpt.page(stage, other) as others,
        financegpt.page(stage, user) as second,
    ):
        code = await first.closed()
        if code != 4510:
            raise Wrong(f"the first socket was closed with {code}")
        for socket, name in ((second, user), (others, other)):
            await socket.live(f"user.{name}.bill_reminder")
            await stage.publish(f"user.{name}.bill_reminder", {"bill": name})
            await socket.expect({"type": "bill_reminder", "bill": name})


@FINANCEGPT.row("switch market_to_all: every page has every price")
async def every_price(stage: Stage) -> None:
    infy = stage.name("INFY")
    async with financegpt.page(stage, stage.name("USR001")) as socket:
        socket.only = stage.tag
        for symbol in (infy, f"{infy}.NS"):
            await socket.live(f"prices.{symbol}")
            await stage.publish(f"prices.{symbol}", {"price": 1500, "change": 1})
            await socket.expect({"type": "MARKET_UPDATE", "stock": symbol, "price": 1500, "change": 1})


@TOOLS.row("trust_client_identity: the public page has no token")
async def public_page(stage: Stage) -> None:
    user = stage.name("USR001")
    async with stage.socket(f"/ws/{user}") as socket:
        await socket.expect(financegpt_tools.WELCOME)
        await financegpt_tools.uses(stage, socket, user)


@TOOLS.row("anonymous_role: the document's address without a token")
async def anonymous_tools(stage: Stage) -> None:
    tool = stage.name("loan_calculator")
    async with (
        stage.socket("/") as socket,
        stage.service(f"tools.{tool}.anonymous", lambda *_: {"monthly_emi": 88}),
        stage.service("finance.anonymous.resources.accounts.list", lambda *_: {"accounts": []}),
    ):
        await socket.expect(financegpt_tools.WELCOME)
        call = financegpt_tools.request(1, "tools.execute", tool=tool, params={"user_id": "USR001"})
        await socket.ask(call, financegpt_tools.result(1, {"monthly_emi": 88}))
        # The user that it names is not believed, and not refused.
        call = financegpt_tools.request(2, "resources.accounts.list", user_id="USR001")
        await socket.ask(call, financegpt_tools.result(2, {"accounts": []}))


@MCP.row("anonymous_role: the second listener accepts clients without a credential")
async def anybody(stage: Stage) -> None:
    tool = stage.name("loan_calculator")
    call = financegpt_mcp.request(1, "tools/call", name=tool, arguments={})
    answer = financegpt_mcp.result(1, financegpt_mcp.CONTENT)
    hello = financegpt_mcp.request(0, "initialize", **financegpt_mcp.CLIENT)
    async with (
        stage.socket("/", subprotocols=["mcp"]) as socket,
        stage.service(f"tools.{tool}.anonymous", lambda *_: financegpt_mcp.CONTENT),
    ):
        await socket.ask(hello, financegpt_mcp.result(0, financegpt_mcp.SERVER))
        await socket.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        await socket.live("user.anonymous.mcp.progress")
        await socket.live("mcp.notify.tools.list_changed")
        await socket.ask(call, answer)
        await socket.quiet()
        await stage.answers(200, answer, "POST", "/mcp", body=call)


@HOARDRUN.row("anonymous_http_role: callers without a credential broadcast and read the statistics")
async def broadcasts(stage: Stage) -> None:
    user, room = stage.name("u1"), stage.name("crypto")
    async with hoardrun.Page(stage, user) as socket:
        # Other rows publish for all users too.
        socket.only = stage.tag
        await hoardrun.join(socket, room)
        for subject in (f"user.{user}.notifications", f"room.{room}", "system.notifications"):
            await socket.live(subject)
        for what, kind in (
            (f"notification?user_id={user}", "notification"),
            ("notification", "notification"),
            (f"market?room={room}", "market_update"),
        ):
            data = {"what": what, "tag": stage.tag}
            await stage.answers(200, ..., "POST", f"/ws/broadcast/{what}", body=data)
            await socket.expect(hoardrun.update(kind, data))

        async def counted() -> None:
            status, got = await stage.http("GET", "/ws/stats")
            if status != 200 or got["data"]["rooms"].get(room) != 1:
                raise Wrong(f"GET /ws/stats: {status} {short(got)}, not 1 in {room}")

        await eventually(counted)
    # A WebSocket still needs a token.
    await stage.refused("/ws/notifications", 401)


@HOARDRUN.row("switch page_types: the types of the public page")
async def page_types(stage: Stage) -> None:
    user = stage.name("u1")
    async with hoardrun.Page(stage, user) as socket:
        kinds = {"balance": "balance", "transactions": "transaction", "notifications": "notification"}
        for subject, kind in kinds.items():
            await socket.live(f"user.{user}.{subject}")
            await stage.publish(f"user.{user}.{subject}", {"id": stage.tag})
            await socket.expect(hoardrun.update(kind, {"id": stage.tag}))


@HOARDRUN.row("auth.api_key: the backend's key")
async def backend_key(stage: Stage) -> None:
    body = {"title": stage.name("Maintenance")}
    call = "/ws/broadcast/announcement"
    await stage.answers(200, ..., "POST", call, token=stage.key(), body=body)
    await stage.answers(401, ..., "POST", call, token=f"{stage.key()}x", body=body)


@STOCK_AGENT.row('stats = "all": every caller gets the names of all clients')
async def names(stage: Stage) -> None:
    client, aapl = stage.name("client-1"), stage.name("AAPL")
    async with stock_agent.Page(stage, client) as socket:
        await stock_agent.join(socket, "prices", symbols=[aapl])

        async def named() -> None:
            wanted = {
                "total_connections": 1,
                "clients": [client],
                "channel_subscriptions": {client: ["prices"]},
                "symbol_subscriptions": {client: [aapl]},
            }
            await stage.answers(200, wanted, "GET", "/ws/stats")

        await eventually(named)


@STOCK_AGENT.row("max_rate_ms: prices arrive once a second")
async def each_second(stage: Stage) -> None:
    aapl = stage.name("AAPL")
    async with stock_agent.Page(stage, "test") as socket:
        await stock_agent.join(socket, "prices", symbols=[aapl])
        await socket.live(f"prices.{aapl}")
        await asyncio.sleep(RATE_S)
        for price in range(1, 6):
            await stage.publish(f"prices.{aapl}", {"price": price})
        for price in (1, 5):
            update = {"type": "price_update", "symbol": aapl, "data": {"price": price}, "timestamp": SECONDS}
            await socket.expect(update)
        await socket.quiet()


@STOCK_AGENT.row("prices_need_symbols: without symbols, a page gets no prices")
async def no_prices(stage: Stage) -> None:
    aapl = stage.name("AAPL")
    async with stock_agent.Page(stage, "test") as socket:
        await stock_agent.join(socket, "prices")
        await stage.publish(f"prices.{aapl}", {"price": 1})
        await socket.quiet()


@SENTIO.row("trust_client_identity: a page is the user that its first message names")
async def trusted_message(stage: Stage) -> None:
    user, other = stage.name("test_user"), stage.name("user_002")
    async with stage.socket("/ws/earnings") as socket:
        await socket.send({"action": "subscribe", "user_id": user})
        await socket.live(f"user.{user}.earnings")
        await stage.publish(f"user.{other}.earnings", {"not": "yours"})
        await stage.publish(f"user.{user}.earnings", sentio.EARNINGS)
        await socket.expect(sentio.message("earnings", sentio.EARNINGS))
        # The user of a session cannot change.
        await socket.ask({"action": "subscribe", "user_id": other}, sentio.error())
        await socket.quiet()


@SENTIO.row("trust_client_identity: a page that polls is the user that its query names")
async def trusted_query(stage: Stage) -> None:
    user, path = stage.name("test_user"), "/api/v1/dashboard/earnings"
    async with stage.socket("/ws/earnings") as socket:
        await socket.send({"action": "subscribe", "user_id": user})
        await socket.live(f"user.{user}.earnings")
        await stage.publish(f"user.{user}.earnings", sentio.EARNINGS)
        await socket.expect(sentio.message("earnings", sentio.EARNINGS))
        await stage.answers(200, sentio.EARNINGS, "GET", f"{path}?user_id={user}")
    # A token takes precedence over a name. A call without either has the role `guest`, which may not read earnings.
    await stage.answers(403, ..., "GET", f"{path}?user_id={user}", token=stage.token(stage.name("user_002")))
    await stage.answers(403, ..., "GET", path)


@SENTIO.row("anonymous_http_role: a page that polls public signals need not name a user")
async def unnamed_poll(stage: Stage) -> None:
    symbol = stage.name("AAPL").upper()
    path = f"/api/v1/dashboard/trade-signals?symbols={symbol}"
    await stage.publish(f"signals.{symbol}", {"symbol": symbol, "signal": "buy"})

    async def polled() -> None:
        wanted = {"signals": [{"symbol": symbol, "signal": "buy"}], "count": 1, "timestamp": sentio.NAIVE}
        await stage.answers(200, wanted, "GET", path)

    await eventually(polled)
    # A subscription has to name one.
    async with stage.socket("/ws/trade-signals") as socket:
        await socket.ask({"action": "subscribe", "symbols": [symbol]}, sentio.error())


@SENTIO.row("api_keys: a fixed admin_token")
async def admin_token(stage: Stage) -> None:
    async with stage.socket("/ws/admin") as socket:
        await socket.send({"action": "subscribe", "admin_token": stage.key()})
        await socket.live("admin.users")


@ARA.row("publish, prediction_requested: a prediction without a credential is announced, and broadcast later")
async def predictions(stage: Stage) -> None:
    (aapl,) = ara.symbols(stage, "AAPL")
    async with stage.socket(f"/ws/predictions/{aapl}") as socket:
        await socket.expect(ara.connected("predictions", aapl))
        await socket.live(f"predictions.{aapl}")
        requested = {"type": "prediction_requested", "symbol": aapl, "status": "processing", "timestamp": SECONDS}
        requested["message"] = "Prediction request received, processing..."
        await socket.ask({"type": "request_prediction"}, requested)
        await stage.publish(f"predictions.{aapl}", ara.PREDICTION)
        await socket.expect(ara.prediction(aapl))


@ARA.row("auth.api_key: a key in place of a token")
async def program_key(stage: Stage) -> None:
    async with stage.socket(f"/ws/alerts?token={stage.key()}") as socket:
        await socket.expect(ara.connected("alerts"))
    await stage.refused(f"/ws/alerts?token={stage.key()}x", 401)
