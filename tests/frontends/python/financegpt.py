"""FinanceGPT Pro (document 000): one socket for each user, pushed events, and requests to services."""

from kit import ANY_TEXT, Stage, Table, Wrong, same, short

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


def page(stage: Stage, user: str, *accounts: str):
    return stage.socket(f"/ws/{user}?token={stage.token(user, accounts=list(accounts))}")


def error(code: str, message: object = ANY_TEXT) -> dict[str, object]:
    return {"type": "error", "code": code, "message": message}


async def done(socket) -> None:
    """Waits until the node has processed all earlier messages, because it answers in order."""
    await socket.ask({"type": "anyone?"}, error("unknown_type", "unknown type: anyone?"))


@table.row("/ws/{user_id}")
async def path(stage: Stage) -> None:
    user = stage.name("USR001")
    async with page(stage, user) as socket:
        await socket.live(f"user.{user}.balance_update")
        await socket.quiet()
    await stage.refused(f"/ws/{user}?token={stage.token(stage.name('USR002'), accounts=[])}", 403)
    await stage.refused(f"/ws/{user}?token=nonsense", 401)
    await stage.refused(f"/ws/{user}", 401)
    await stage.refused(f"/ws/?token={stage.token(user, accounts=[])}", 404)


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


@table.row("events of other users do not arrive")
async def private(stage: Stage) -> None:
    user, other = stage.name("USR001"), stage.name("USR002")
    async with page(stage, user) as socket:
        await socket.live(f"user.{user}.fraud_alert")
        await stage.publish(f"user.{other}.fraud_alert", {"message": "not yours"})
        await stage.publish(f"user.{user}.internal", {"message": "for nobody"})
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


@table.row("MARKET_UPDATE")
async def market(stage: Stage) -> None:
    user, infy, tcs = stage.name("USR001"), stage.name("INFY"), stage.name("TCS")
    async with page(stage, user) as socket:
        await socket.send({"type": "subscribe", "symbols": [infy]})
        await socket.live(f"market.{infy}")
        await stage.publish(f"market.{tcs}", {"symbol": tcs, "price": 1, "change": 1})
        await stage.publish(f"market.{infy}", {"symbol": infy, "price": 2891.4, "change": -12.1, "volume": 100})
        await socket.expect({"type": "MARKET_UPDATE", "stock": infy, "price": 2891.4, "change": -12.1})
        await stage.publish(f"market.{infy}", {"symbol": infy, "price": 1500})
        await socket.expect({"type": "MARKET_UPDATE", "stock": infy, "price": 1500, "change": None})
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
        await socket.send({"type": "unsubscribe", "events": ["insight_ready", "goal_progress"]})
        await socket.send({"type": "subscribe", "events": ["insight_ready"]})
        await socket.send({"type": "subscribe", "symbols": [infy, tcs]})
        await socket.live(f"user.{user}.insight_ready")
        await socket.live(f"market.{infy}")
        await socket.live(f"market.{tcs}")
        await stage.publish(f"user.{user}.goal_progress", {"goal": "car"})
        await stage.publish(f"user.{user}.insight_ready", {"insight": "a"})
        await socket.expect({"type": "insight_ready", "insight": "a"})
        await socket.quiet()
        await socket.ask({"type": "subscribe"}, error("bad_request", "subscribe needs a list, `events` or `symbols`"))
        await socket.ask({"type": "subscribe", "symbols": ["*"]}, error("bad_channel"))
        await socket.ask({"type": "subscribe", "events": "fraud_alert"}, error("bad_request"))


@table.row("unsubscribe")
async def unsubscribe(stage: Stage) -> None:
    user, infy, tcs = stage.name("USR001"), stage.name("INFY"), stage.name("TCS")
    async with page(stage, user) as socket:
        await socket.send({"type": "subscribe", "symbols": [infy, tcs]})
        await socket.live(f"market.{infy}")
        await socket.live(f"market.{tcs}")
        await socket.live(f"user.{user}.bill_reminder")
        await socket.live(f"user.{user}.balance_update")
        await socket.send({"type": "unsubscribe", "events": ["bill_reminder"]})
        await socket.send({"type": "unsubscribe", "symbols": [infy]})
        await done(socket)
        await stage.publish(f"user.{user}.bill_reminder", {"bill": "rent"})
        await stage.publish(f"market.{infy}", {"symbol": infy, "price": 1, "change": 1})
        await stage.publish(f"market.{tcs}", {"symbol": tcs, "price": 2, "change": 1})
        await socket.expect({"type": "MARKET_UPDATE", "stock": tcs, "price": 2, "change": 1})
        await stage.publish(f"user.{user}.balance_update", {"new_balance": 1})
        await socket.expect({"type": "balance_update", "new_balance": 1})
        await socket.quiet()
        await socket.ask(
            {"type": "unsubscribe"}, error("bad_request", "unsubscribe needs a list, `events` or `symbols`")
        )


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
    failed = RuntimeError("no such loan")
    await asks(stage, f"tools.{tool}.USER", message, {"amount": 100000}, failed, error("service", "no such loan"))


@table.row("acknowledge_alert")
async def acknowledge_alert(stage: Stage) -> None:
    message = {"type": "acknowledge_alert", "alert_id": "alert-7"}
    await asks(stage, "finance.USER.acknowledge", message, message, {"ok": True}, {"acknowledged": "alert-7"})


@table.row("errors")
async def errors(stage: Stage) -> None:
    user = stage.name("USR001")
    async with page(stage, user) as socket:
        await socket.ask({"type": "get_balance"}, error("no_responders"))
        await socket.ask({"type": "execute_tool", "tool": "a.b"}, error("bad_channel"))
        await socket.ask({"type": "execute_tool"}, error("bad_request", "`tool` is missing"))
        await socket.ask({"type": "acknowledge_alert"}, error("bad_request", "`alert_id` is missing"))
        await socket.ask({"type": "dance"}, error("unknown_type", "unknown type: dance"))
        await socket.ask('{"type":', error("not_json"))
        await socket.ask("[]", error("not_json"))
