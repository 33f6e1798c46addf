"""FinanceGPT Pro's second listener (document 000, port 9001): the system's own JSON-RPC, and the public page, which
connects there and not to port 8000."""

from contextlib import asynccontextmanager

from kit import ANY_TEXT, MILLISECONDS, Socket, Stage, Table, Wrong, same, short

table = Table("financegpt-tools")

WELCOME = {
    "type": "welcome",
    "connection_id": ANY_TEXT,
    "server_version": "1.0.0",
    "timestamp": MILLISECONDS,
}
TOOLS = {"tools": [{"name": "loan_calculator", "description": "EMI", "parameters": {"principal": "Loan amount"}}]}


def request(number: int, method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": method, "id": number} | ({"params": params} if params else {})


def result(number: int | None, value: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "result": value, "id": number}


def error(number: int | None, code: int, message: object = ANY_TEXT) -> dict[str, object]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": number}


@asynccontextmanager
async def client(stage: Stage, user: str, path: str = "/"):
    """A client that has been welcomed. It offers no subprotocol."""
    async with stage.socket(f"{path}?token={stage.token(user)}") as socket:
        await socket.expect(WELCOME)
        yield socket


@table.row("own JSON-RPC: welcome, ping, tools")
async def tools(stage: Stage) -> None:
    user, tool = stage.name("USR001"), stage.name("loan_calculator")
    pong = {"pong": True, "timestamp": MILLISECONDS}
    async with (
        client(stage, user) as socket,
        stage.service("mcp.tools", lambda *_: TOOLS),
        stage.service(f"tools.{tool}.{user}", lambda *_: {"monthly_emi": 88}) as asked,
    ):
        await socket.ask(request(1, "system.ping"), result(1, pong))
        await socket.ask({"jsonrpc": "2.0", "method": "system.ping"}, result(None, pong))
        await socket.ask(request(2, "tools.list"), result(2, TOOLS))
        call = request(3, "tools.execute", tool=tool, params={"principal": 1000})
        await socket.ask(call, result(3, {"monthly_emi": 88}))
        if not same([f"tools.{tool}.{user}", {"principal": 1000}], list(asked[0])):
            raise Wrong(f"the service was asked {short(asked)}")
        await socket.ask(request(4, "tools.execute", tool=stage.name("nothing")), error(4, -32601))
        await socket.ask(request(5, "tools.execute"), error(5, -32602, "tools.execute needs params.tool"))
        await socket.ask({"method": "tools.list", "id": 6}, error(6, -32600, "Invalid request format"))
        await socket.ask("{", error(None, -32700))
    await stage.refused("/", 401)


@table.row("own JSON-RPC: resources")
async def resources(stage: Stage) -> None:
    user = stage.name("USR001")
    accounts = {"accounts": [], "total_balance": 0, "count": 0, "currency": "INR"}
    subject = f"finance.{user}.resources.accounts.list"
    async with client(stage, user) as socket, stage.service(subject, lambda *_: accounts) as asked:
        await socket.ask(request(1, "resources.accounts.list", user_id=user), result(1, accounts))
        if not same([subject, {"user_id": user}], list(asked[0])):
            raise Wrong(f"the service was asked {short(asked)}")
        other = stage.name("USR002")
        await socket.ask(request(2, "resources.accounts.list", user_id=other), error(2, -32002))
        await socket.ask(request(3, "resources.nothing.list"), error(3, -32601))


@table.row("own JSON-RPC: pushes")
async def pushes(stage: Stage) -> None:
    user = stage.name("USR001")
    async with client(stage, user) as one, client(stage, stage.name("USR002")) as two:
        for socket in (one, two):
            # Other rows publish for all users too.
            socket.only = stage.tag
            await socket.live("system.fraud_alert")
            await socket.live("mcp.update.accounts")
        fraud = {"id": stage.name("TXN999999"), "amount": -35000}
        await stage.publish("system.fraud_alert", fraud)
        for socket in (one, two):
            await socket.expect({"type": "fraud_alert", "data": fraud, "timestamp": MILLISECONDS, "severity": "HIGH"})
        # Two subjects have no order, so this one is published after the other has arrived.
        await stage.publish("mcp.update.accounts", {"tag": stage.tag})
        params = {"resource": "accounts", "data": {"tag": stage.tag}, "timestamp": MILLISECONDS}
        for socket in (one, two):
            await socket.expect({"jsonrpc": "2.0", "method": "update", "params": params})
        await one.live(f"user.{user}.fraud_alert")
        await stage.publish(f"user.{user}.fraud_alert", fraud | {"severity": "LOW"})
        await one.expect(
            {"type": "fraud_alert", "data": fraud | {"severity": "LOW"}, "timestamp": MILLISECONDS, "severity": "LOW"}
        )
        await two.quiet()


async def uses(stage: Stage, socket: Socket, user: str) -> None:
    """What the public page sends, and what it hears."""
    value = {"totalValue": 1136351, "change": 1.5}
    answer = {"type": "portfolio", "data": value, "timestamp": MILLISECONDS, "user_id": user}
    async with stage.service(f"finance.{user}.portfolio", lambda *_: value):
        await socket.send({"type": "heartbeat", "timestamp": "2026-01-06T12:00:00.000Z"})
        await socket.ask({"type": "request_update", "target": "portfolio", "timestamp": "2026-01-06"}, answer)
    for kind in ("portfolio", "accounts", "transactions", "credit", "market"):
        await socket.live(f"user.{user}.{kind}")
        await stage.publish(f"user.{user}.{kind}", {"a": 1})
        await socket.expect({"type": kind, "data": {"a": 1}, "timestamp": MILLISECONDS, "user_id": user})
    await socket.quiet()


@table.row("the public page, with a token")
async def page(stage: Stage) -> None:
    user = stage.name("USR001")
    async with client(stage, user, f"/ws/{user}") as socket:
        await uses(stage, socket, user)
    await stage.refused(f"/ws/{user}?token={stage.token(stage.name('USR002'))}", 403)
    await stage.refused(f"/ws/{user}", 401)


@table.row("own JSON-RPC: HTTP")
async def http(stage: Stage) -> None:
    user = stage.name("USR001")
    pong = result(1, {"pong": True, "timestamp": MILLISECONDS})
    body = request(1, "system.ping")
    await stage.answers(200, pong, "POST", "/mcp/request", token=stage.token(user), body=body)
    await stage.answers(401, ..., "POST", "/mcp/request", body=request(2, "tools.list"))
    await stage.answers(200, {"status": "ok"}, "GET", "/mcp/health")
