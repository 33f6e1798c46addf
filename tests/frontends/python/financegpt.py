"""FinanceGPT Pro (document 000): one socket for each user, pushed events, and requests to services."""

from contextlib import asynccontextmanager

from kit import ANY_TEXT, MILLISECONDS, Stage, Table, Wrong, same, short

table = Table("financegpt")

EVENTS: dict[str, dict[str, object]] = {
    "balance_update": {"new_balance": 45000.5, "transaction": {"id": "TXN9", "amount": -5000}},
    "transaction_alert": {"amount": 1200, "merchant": "Cafe"},
    "fraud_alert": {"message": "FRAUD ALERT! Block card?"},
    "goal_progress": {"goal": "car", "percent": 50},
    "market_update": {"holding": "INFY", "value": 15000},
    "bill_reminder": {"bill": "rent", "due": "2026-12-01"},
    "insight_ready": {"insight": "You spend less on Mondays"},
    "system_notification": {"message": "maintenance at night"},
    "URGENT_FRAUD_ALERT": {"message": "Suspicious ₹35,000 transaction detected!", "action_required": True},
}


def greeting(user: str) -> dict[str, object]:
    return {
        "type": "connection",
        "message": "Connected to FinanceGPT Pro",
        "user_id": user,
        "connection_id": ANY_TEXT,
        "timestamp": MILLISECONDS,
    }


@asynccontextmanager
async def page(stage: Stage, user: str, *accounts: str):
    """A page that has received the greeting. A user who shares no accounts has no claim for them."""
    claims = {"accounts": list(accounts)} if accounts else {}
    async with stage.socket(f"/ws/{user}?token={stage.token(user, **claims)}") as socket:
        await socket.expect(greeting(user))
        yield socket


def error(code: str, message: object = ANY_TEXT) -> dict[str, object]:
    return {"type": "error", "code": code, "message": message}


@table.row("/ws/{user_id}")
async def path(stage: Stage) -> None:
    user = stage.name("USR001")
    async with page(stage, user) as socket:
        await socket.live(f"user.{user}.balance_update")
        await socket.quiet()
    await stage.refused(f"/ws/{user}?token={stage.token(stage.name('USR002'))}", 403)
    await stage.refused(f"/ws/{user}?token=nonsense", 401)
    await stage.refused(f"/ws/{user}", 401)
    await stage.refused(f"/ws/?token={stage.token(user)}", 404)


def pushed(event: str, payload: dict[str, object]) -> None:
    @table.row(event)
    async def row(stage: Stage) -> None:
        user = stage.name("USR001")
        async with page(stage, user) as socket:
            await socket.live(f"user.{user}.{event}")
            await stage.publish(f"user.{user}.{event}", payload)
            await socket.expect({"type": event, **payload})
            await socket.quiet()


for name, members in EVENTS.items():
    pushed(name, members)


@table.row("an event that the document does not name, and payloads that are no objects")
async def any_event(stage: Stage) -> None:
    user = stage.name("USR001")
    async with page(stage, user) as socket:
        await socket.live(f"user.{user}.anything")
        await stage.publish(f"user.{user}.custom_event", {"a": 1})
        await socket.expect({"type": "custom_event", "a": 1})
        for payload, data in (("hello", "hello"), ("45000.5", 45000.5), ("[1,2]", [1, 2]), ("null", None)):
            await stage.publish(f"user.{user}.balance_update", payload)
            await socket.expect({"type": "balance_update", "data": data})
        await socket.quiet()


@table.row("a notification has its own type")
async def notification(stage: Stage) -> None:
    user = stage.name("USR001")
    alert = {"type": "URGENT_FRAUD_ALERT"} | EVENTS["URGENT_FRAUD_ALERT"]
    async with page(stage, user) as socket:
        await socket.live(f"user.{user}.notifications")
        await stage.publish(f"user.{user}.notifications", alert)
        await socket.expect(alert)
        await socket.quiet()


@table.row("one publication for all users")
async def everybody(stage: Stage) -> None:
    async with page(stage, stage.name("USR001")) as one, page(stage, stage.name("USR002")) as two:
        for socket in (one, two):
            # Other rows publish for all users too.
            socket.only = stage.tag
            await socket.live("system.system_notification")
        named, whole = {"message": stage.tag}, {"type": "MARKET_HOLIDAY", "on": stage.tag}
        for subject, payload, wanted in (
            ("system.system_notification", named, {"type": "system_notification"} | named),
            ("system.notifications", whole, whole),
            ("system.announcements", named, {"type": "system_notification"} | named),
        ):
            await stage.publish(subject, payload)
            for socket in (one, two):
                await socket.expect(wanted)


@table.row("events of other users do not arrive")
async def private(stage: Stage) -> None:
    user, other = stage.name("USR001"), stage.name("USR002")
    async with page(stage, user) as socket:
        await socket.live(f"user.{user}.fraud_alert")
        await stage.publish(f"user.{other}.fraud_alert", {"message": "not yours"})
        await stage.publish(f"user.{user}.mcp.progress", {"progress": 1})
        await stage.publish(f"user.{user}.fraud_alert", {"type": "balance_update", "message": "mine"})
        await socket.expect({"type": "fraud_alert", "message": "mine"})
        await socket.quiet()


@table.row("several sockets of a user")
async def several(stage: Stage) -> None:
    user = stage.name("USR001")
    async with page(stage, user) as phone:
        async with page(stage, user) as laptop:
            for socket in (phone, laptop):
                await socket.live(f"user.{user}.bill_reminder")
            await stage.publish(f"user.{user}.bill_reminder", EVENTS["bill_reminder"])
            for socket in (phone, laptop):
                await socket.expect({"type": "bill_reminder", **EVENTS["bill_reminder"]})
        await stage.publish(f"user.{user}.bill_reminder", {"bill": "power"})
        await phone.expect({"type": "bill_reminder", "bill": "power"})


async def watch(socket, *symbols: str) -> None:
    listed = {"symbols": list(symbols)}
    await socket.ask({"type": "subscribe", **listed}, {"type": "subscribed", **listed})


@table.row("MARKET_UPDATE")
async def market(stage: Stage) -> None:
    user, infy, tcs = stage.name("USR001"), stage.name("INFY"), stage.name("TCS")
    async with page(stage, user) as socket:
        await watch(socket, infy)
        for prefix in ("prices", "market"):
            await socket.live(f"{prefix}.{infy}")
            await stage.publish(f"{prefix}.{tcs}", {"symbol": tcs, "price": 1, "change": 1})
            await stage.publish(f"{prefix}.{infy}", {"symbol": infy, "price": 2891.4, "change": -12.1, "volume": 100})
            await socket.expect({"type": "MARKET_UPDATE", "stock": infy, "price": 2891.4, "change": -12.1})
            await stage.publish(f"{prefix}.{infy}", {"price": 1500})
            await socket.expect({"type": "MARKET_UPDATE", "stock": infy, "price": 1500, "change": None})
        await socket.quiet()


@table.row("MARKET_UPDATE of 22 symbols of the NSE at once")
async def national(stage: Stage) -> None:
    symbols = [f"{stage.name(f'STOCK{number}')}.NS" for number in range(22)]
    async with page(stage, stage.name("USR001")) as socket:
        await watch(socket, *symbols)
        for symbol in (symbols[0], symbols[21]):
            await socket.live(f"prices.{symbol}")
            await stage.publish(f"prices.{symbol}", {"price": 2891.4, "change": -12.1})
            await socket.expect({"type": "MARKET_UPDATE", "stock": symbol, "price": 2891.4, "change": -12.1})
        await socket.quiet()


@table.row("SHARED_ACCOUNT_UPDATE: one update reaches a family")
async def family(stage: Stage) -> None:
    account, own = stage.name("ACC1"), stage.name("ACC7")
    dad, mom, stranger = stage.name("USR001"), stage.name("USR002"), stage.name("USR003")
    async with (
        page(stage, dad, account) as first,
        page(stage, mom, own, account) as second,
        page(stage, stranger) as third,
    ):
        await first.live(f"account.{account}.updates")
        await second.live(f"account.{account}.updates")
        await second.live(f"account.{own}.updates")
        await third.live(f"user.{stranger}.balance_update")
        update = {"by": dad, "withdrawn": 5000, "new_balance": 15000}
        await stage.publish(f"account.{account}.updates", update)
        for socket in (first, second):
            await socket.expect({"type": "SHARED_ACCOUNT_UPDATE", "update": update})
        await stage.publish(f"account.{own}.updates", update)
        await second.expect({"type": "SHARED_ACCOUNT_UPDATE", "update": update})
        for socket in (first, second, third):
            await socket.quiet()


@table.row("subscribe")
async def subscribe(stage: Stage) -> None:
    user, infy, tcs = stage.name("USR001"), stage.name("INFY"), stage.name("TCS")
    async with page(stage, user) as socket:
        await socket.live(f"user.{user}.insight_ready")
        fewer, again = {"events": ["insight_ready", "goal_progress"]}, {"events": ["insight_ready"]}
        await socket.ask({"type": "unsubscribe", **fewer}, {"type": "unsubscribed", **fewer})
        await socket.ask({"type": "subscribe", **again}, {"type": "subscribed", **again})
        await watch(socket, infy, tcs)
        await socket.live(f"prices.{infy}")
        await socket.live(f"prices.{tcs}")
        await stage.publish(f"user.{user}.goal_progress", {"goal": "car"})
        await stage.publish(f"user.{user}.insight_ready", {"insight": "a"})
        await socket.expect({"type": "insight_ready", "insight": "a"})
        await socket.quiet()
        await socket.ask({"type": "subscribe"}, error("bad_request", "subscribe needs `events`, `symbols` or `channels`"))
        await socket.ask({"type": "subscribe", "symbols": ["*"]}, error("bad_channel"))
        await socket.ask({"type": "subscribe", "events": "fraud_alert"}, error("bad_request"))


@table.row("unsubscribe")
async def unsubscribe(stage: Stage) -> None:
    user, infy, tcs = stage.name("USR001"), stage.name("INFY"), stage.name("TCS")
    async with page(stage, user) as socket:
        await watch(socket, infy, tcs)
        await socket.live(f"prices.{infy}")
        await socket.live(f"prices.{tcs}")
        await socket.live(f"user.{user}.bill_reminder")
        for listed in ({"events": ["bill_reminder"]}, {"events": ["goal_progress"]}, {"symbols": [infy]}):
            await socket.ask({"type": "unsubscribe", **listed}, {"type": "unsubscribed", **listed})
        await stage.publish(f"user.{user}.bill_reminder", {"bill": "rent"})
        await stage.publish(f"user.{user}.goal_progress", {"goal": "car"})
        await stage.publish(f"prices.{infy}", {"price": 1, "change": 1})
        await stage.publish(f"prices.{tcs}", {"price": 2, "change": 1})
        await socket.expect({"type": "MARKET_UPDATE", "stock": tcs, "price": 2, "change": 1})
        await stage.publish(f"user.{user}.balance_update", {"new_balance": 1})
        await socket.expect({"type": "balance_update", "new_balance": 1})
        await socket.quiet()
        await socket.ask(
            {"type": "unsubscribe"}, error("bad_request", "unsubscribe needs `events`, `symbols` or `channels`")
        )


@table.row("the public server's ping and channels")
async def public_messages(stage: Stage) -> None:
    async with page(stage, stage.name("USR001")) as socket:
        await socket.ask({"type": "ping"}, {"type": "pong"})
        channels = ["alerts", "prices"]
        wanted = {"type": "subscribed", "channels": channels, "message": ANY_TEXT}
        await socket.ask({"type": "subscribe", "channels": channels}, wanted)
        wanted = {"type": "unsubscribed", "channels": channels, "message": ANY_TEXT}
        await socket.ask({"type": "unsubscribe", "channels": channels}, wanted)


async def asks(stage: Stage, subject: str, message: dict, request: object, reply: object, answer: object) -> None:
    """Checks that the page's message becomes this request to the service, and its reply this answer to the page."""
    user = stage.name("USR001")
    subject = subject.replace("USER", user)
    async with page(stage, user) as socket, stage.service(subject, lambda *_: reply) as asked:
        await socket.ask(message, answer)
        if len(asked) != 1 or not same([subject, request], list(asked[0])):
            raise Wrong(f"the service was asked {short(asked)}, not {subject} {short(request)}")


@table.row("get_balance")
async def get_balance(stage: Stage) -> None:
    message = {"type": "get_balance", "account": "savings"}
    await asks(stage, "finance.USER.balance", message, message, 45000.5, {"balance": 45000.5})


@table.row("get_transactions")
async def get_transactions(stage: Stage) -> None:
    message = {"type": "get_transactions", "limit": 2}
    reply = [{"id": "TXN9", "amount": -5000}, {"id": "TXN8", "amount": 200}]
    await asks(stage, "finance.USER.transactions", message, message, reply, {"transactions": reply})


@table.row("execute_tool")
async def execute_tool(stage: Stage) -> None:
    tool = stage.name("loan_calculator")
    message = {"type": "execute_tool", "tool": tool, "params": {"amount": 100000}}
    answer = {"tool": tool, "result": {"emi": 8792}}
    await asks(stage, f"tools.{tool}.USER", message, {"amount": 100000}, {"emi": 8792}, answer)
    await asks(
        stage, f"tools.{tool}.USER", {"type": "execute_tool", "tool": tool}, None, 1, {"tool": tool, "result": 1}
    )
    for names in (("tool", "arguments"), ("tool", "args"), ("tool_name", "arguments"), ("tool_name", "parameters")):
        named = {"type": "execute_tool", names[0]: tool, names[1]: {"amount": 1}}
        await asks(stage, f"tools.{tool}.USER", named, {"amount": 1}, 2, {"tool": tool, "result": 2})
    failed = RuntimeError("no such loan")
    await asks(stage, f"tools.{tool}.USER", message, {"amount": 100000}, failed, error("service", "no such loan"))


@table.row("acknowledge_alert")
async def acknowledge_alert(stage: Stage) -> None:
    message = {"type": "acknowledge_alert", "alert_id": "alert-7"}
    await asks(stage, "finance.USER.acknowledge", message, message, {"ok": True}, {"acknowledged": "alert-7"})


@table.row("the public server's requests")
async def public_requests(stage: Stage) -> None:
    check = {"type": "fraud_check", "transaction": {"id": "TXN1", "amount": -50000}}
    answer = {"type": "fraud_check_result", "result": {"risk_score": 0.2}, "timestamp": MILLISECONDS}
    await asks(stage, "finance.USER.fraud_check", check, check, {"risk_score": 0.2}, answer)
    spending = {"type": "spending_insight", "transactions": [{"amount": -1}]}
    reply = {"ai_insights": {"trend": "up"}, "category_breakdown": {"FOOD": 1}}
    answer = {
        "type": "spending_insights",
        "insights": {"trend": "up"},
        "recommendations": {"FOOD": 1},
        "timestamp": MILLISECONDS,
    }
    await asks(stage, "finance.USER.spending_insight", spending, spending, reply, answer)
    chat = {"type": "chat_message", "message": "How much can I save?"}
    answer = {"type": "chat_response", "message": "₹1,000", "confidence": 0.9, "timestamp": MILLISECONDS}
    await asks(stage, "finance.USER.chat", chat, chat, {"message": "₹1,000", "confidence": 0.9}, answer)


@table.row("errors")
async def errors(stage: Stage) -> None:
    user = stage.name("USR001")
    async with page(stage, user) as socket:
        await socket.ask({"type": "get_balance"}, error("no_responders"))
        request = {"type": "request", "request": {"jsonrpc": "2.0", "method": "nope", "id": 3}}
        refused = {"jsonrpc": "2.0", "error": {"code": -32601, "message": ANY_TEXT}, "id": 3}
        await socket.ask(request, {"type": "response", "result": refused, "timestamp": MILLISECONDS})
        await socket.ask({"type": "execute_tool", "tool": "a.b"}, error("bad_channel"))
        await socket.ask({"type": "execute_tool"}, error("bad_request", "`tool` is missing"))
        await socket.ask({"type": "acknowledge_alert"}, error("bad_request", "`alert_id` is missing"))
        await socket.ask({"type": "dance"}, error("unknown_type", "unknown type: dance"))
        await socket.ask('{"type":', error("not_json"))
        await socket.ask("[]", error("not_json"))
