"""FinanceGPT Pro's second listener (document 000, port 9001): JSON-RPC and MCP without a client library. The
real client is in node/financegpt-mcp.mjs."""

from kit import ANY_TEXT, Stage, Table

table = Table("financegpt-mcp")

CLIENT = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "client", "version": "1.0.0"}}
SERVER = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"logging": {}, "tools": {"listChanged": True}},
    "serverInfo": {"name": "financegpt-mcp", "version": "1.0.0"},
}
TOOLS = {"tools": [{"name": "loan_calculator", "inputSchema": {"type": "object"}}]}
CONTENT = {"content": [{"type": "text", "text": "8792"}], "isError": False}


def request(number: int, method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method} | ({"params": params} if params else {})


def result(number: int, value: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "result": value}


def error(number: int | None, code: int, message: object = ANY_TEXT) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}


def notification(method: str, params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params}


@table.row("second listener: WebSocket")
async def websocket(stage: Stage) -> None:
    user, tool = stage.name("USR001"), stage.name("loan_calculator")
    token = stage.token(user)
    async with (
        stage.socket(f"/?token={token}", subprotocols=["mcp"]) as socket,
        stage.service("mcp.tools", lambda *_: TOOLS),
        stage.service(f"tools.{tool}.{user}", lambda *_: CONTENT),
    ):
        await socket.ask(request(0, "initialize", **CLIENT), result(0, SERVER))
        # The server accepts a known version, and offers the newest one for an unknown version.
        for asked, got in (("2024-11-05",) * 2, ("2025-03-26", "2025-11-25"), ("2029-01-01", "2025-11-25")):
            answer = result(0, SERVER | {"protocolVersion": got})
            await socket.ask(request(0, "initialize", **CLIENT | {"protocolVersion": asked}), answer)
        await socket.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        await socket.ask(request(1, "tools/list"), result(1, TOOLS))
        await socket.ask(request(2, "tools/call", name=tool, arguments={"amount": 1}), result(2, CONTENT))
        await socket.ask(request(3, "ping"), result(3, {}))
        await socket.ask(request(10, "logging/setLevel", level="warning"), result(10, {}))
        await socket.ask(request(11, "logging/setLevel", level="loud"), error(11, -32602))
        await socket.ask(request(4, "resources/list"), error(4, -32601, "Method not found: resources/list"))
        await socket.ask(request(5, "tools/call", name=stage.name("nothing")), error(5, -32602))
        await socket.ask("[]", error(None, -32700))
        await socket.ask(
            {"jsonrpc": "2.0", "id": 6, "method": "tools/call"}, error(6, -32602, "tools/call needs params.name")
        )
        await socket.ask({"id": 7, "method": "ping"}, error(7, -32600, "Invalid Request"))
        # Notifications and responses get no reply.
        await socket.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}})
        await socket.send({"jsonrpc": "2.0", "id": 9, "result": {}})
        await socket.ask(request(8, "ping"), result(8, {}))
        await socket.live(f"user.{user}.mcp.progress")
        await socket.live("mcp.notify.tools.list_changed")
        await socket.live("mcp.notify.message")
        await stage.publish("mcp.notify.tools.list_changed", {})
        await socket.expect(notification("tools/list_changed", {}))
        await stage.publish(f"user.{user}.mcp.progress", {"progressToken": 2, "progress": 50})
        await socket.expect(notification("progress", {"progressToken": 2, "progress": 50}))
        await stage.publish("mcp.notify.message", {"level": "info", "data": "markets open"})
        await socket.expect(notification("message", {"level": "info", "data": "markets open"}))
        await socket.quiet()
    # No service lists the tools, so the error is one of the server.
    async with stage.socket(f"/?token={token}", subprotocols=["mcp"]) as socket:
        await socket.ask(request(1, "tools/list"), error(1, -32603))
    await stage.refused("/", 401, subprotocols=["mcp"])


@table.row("second listener: HTTP")
async def http(stage: Stage) -> None:
    user, tool = stage.name("USR001"), stage.name("loan_calculator")
    token = stage.token(user)
    post = {"method": "POST", "path": "/mcp", "token": token}
    async with stage.service(f"tools.{tool}.{user}", lambda *_: CONTENT):
        await stage.answers(200, result(0, SERVER), body=request(0, "initialize", **CLIENT), **post)
        await stage.answers(202, None, body={"jsonrpc": "2.0", "method": "notifications/initialized"}, **post)
        await stage.answers(200, result(1, CONTENT), body=request(1, "tools/call", name=tool, arguments={}), **post)
        await stage.answers(200, error(2, -32601, "Method not found: nothing"), body=request(2, "nothing"), **post)
        # The address of the document, without a path.
        await stage.answers(200, result(3, {}), "POST", "/", token=token, body=request(3, "ping"))
        await stage.answers(405, ..., "GET", "/mcp", token=token)
        await stage.answers(405, ..., "DELETE", "/mcp", token=token)
        await stage.answers(401, ..., "POST", "/mcp", body=request(0, "initialize", **CLIENT))
