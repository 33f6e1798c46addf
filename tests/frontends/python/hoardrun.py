"""hoardrun (document 001): notifications, transactions and balances on one socket, rooms, and broadcasts over HTTP."""

from kit import ANY_TEXT, MILLISECONDS, AtLeast, Stage, Table, Wrong, eventually, short

table = Table("hoardrun")

PONG = {"type": "pong", "timestamp": MILLISECONDS}
NOTIFICATION = {
    "id": "n1",
    "title": "Login",
    "message": "New device",
    "type": "security",
    "priority": "high",
    "metadata": {},
    "created_at": "2025-01-05T10:00:00",
}
TRANSACTION = {"transaction_id": "t1", "status": "completed", "amount": 120.5, "timestamp": "2025-01-05T10:00:01"}


class Page:
    """A page that has received the greeting."""

    def __init__(self, stage: Stage, user: str) -> None:
        self.user = user
        self._socket = stage.socket(f"/ws/notifications?token={stage.token(user)}")

    async def __aenter__(self):
        socket = await self._socket.__aenter__()
        await socket.expect({"type": "connection_established", "user_id": self.user, "timestamp": MILLISECONDS})
        return socket

    async def __aexit__(self, *error: object) -> None:
        await self._socket.__aexit__(*error)


@table.row("/ws/notifications?token=")
async def path(stage: Stage) -> None:
    await stage.refused("/ws/notifications", 401)
    await stage.refused("/ws/notifications?token=nonsense", 401)
    async with Page(stage, stage.name("u1")) as socket:
        await socket.quiet()


@table.row("connection_established")
async def established(stage: Stage) -> None:
    async with Page(stage, stage.name("u1")):
        pass


@table.row("ping")
async def ping(stage: Stage) -> None:
    async with Page(stage, stage.name("u1")) as socket:
        await socket.ask({"type": "ping"}, PONG)


@table.row("join_room")
async def join_room(stage: Stage) -> None:
    crypto, forex, stocks = stage.name("crypto"), stage.name("forex"), stage.name("stocks")
    async with Page(stage, stage.name("u1")) as socket:
        await socket.send({"type": "join_room", "room": crypto})
        await socket.send({"type": "join_room", "room": forex})
        await socket.send({"type": "join_room", "room": forex})
        await socket.live(f"room.{crypto}")
        await socket.live(f"room.{forex}")
        await stage.publish(f"room.{stocks}", {"symbol": "AAPL"})
        for room, data in ((crypto, {"symbol": "BTC", "price": 1}), (forex, {"pair": "EURUSD"})):
            await stage.publish(f"room.{room}", data)
            await socket.expect({"type": "market_update", "data": data})
        await socket.quiet()


@table.row("leave_room")
async def leave_room(stage: Stage) -> None:
    crypto, forex = stage.name("crypto"), stage.name("forex")
    async with Page(stage, stage.name("u1")) as socket:
        for room in (crypto, forex):
            await socket.send({"type": "join_room", "room": room})
            await socket.live(f"room.{room}")
        await socket.send({"type": "leave_room", "room": crypto})
        await socket.send({"type": "leave_room", "room": stage.name("nowhere")})
        await socket.ask({"type": "ping"}, PONG)
        await stage.publish(f"room.{crypto}", {"symbol": "BTC"})
        await stage.publish(f"room.{forex}", {"pair": "EURUSD"})
        await socket.expect({"type": "market_update", "data": {"pair": "EURUSD"}})
        await socket.quiet()


@table.row("subscribe_notifications")
async def types(stage: Stage) -> None:
    user = stage.name("u1")
    async with Page(stage, user) as socket:
        await socket.live(f"user.{user}.notifications", type="savings")
        await socket.live(f"user.{user}.balance")
        for kinds, wanted, unwanted in (
            (["transaction", "balance", "security"], "security", "savings"),
            (["savings"], "savings", "security"),
        ):
            await socket.send({"type": "subscribe_notifications", "types": kinds})
            await socket.ask({"type": "ping"}, PONG)
            await stage.publish(f"user.{user}.notifications", {"id": "n2", "type": unwanted})
            await stage.publish(f"user.{user}.notifications", {"id": "n3"})
            await stage.publish(f"user.{user}.notifications", {"id": "n4", "type": wanted})
            await socket.expect({"type": "notification", "data": {"id": "n4", "type": wanted}})
            await socket.quiet()
        await stage.publish(f"user.{user}.balance", {"balance": 1})
        await socket.expect({"type": "balance_update", "data": {"balance": 1}})


def pushed(kind: str, subject: str, data: dict[str, object]) -> None:
    @table.row(kind)
    async def row(stage: Stage) -> None:
        user, other = stage.name("u1"), stage.name("u2")
        async with Page(stage, user) as socket:
            await socket.live(subject.replace("USER", user))
            if "USER" in subject:
                await stage.publish(subject.replace("USER", other), {"not": "yours"})
            mine = data | {"tag": stage.tag}
            await stage.publish(subject.replace("USER", user), mine)
            await socket.expect({"type": kind, "data": mine})
            await socket.quiet()


pushed("notification", "user.USER.notifications", NOTIFICATION)
pushed("transaction_update", "user.USER.transactions", TRANSACTION)
pushed("balance_update", "user.USER.balance", {"balance": 879.5, "currency": "USD"})
pushed("system_announcement", "system.announcements", {"title": "Maintenance", "message": "tonight"})


@table.row("market_update")
async def market(stage: Stage) -> None:
    room = stage.name("market_data")
    async with Page(stage, stage.name("u1")) as socket:
        await socket.send({"type": "join_room", "room": room})
        await socket.live(f"room.{room}")
        await stage.publish(f"room.{room}", {"symbol": "AAPL", "price": 190.1})
        await socket.expect({"type": "market_update", "data": {"symbol": "AAPL", "price": 190.1}})


@table.row("error")
async def error(stage: Stage) -> None:
    async with Page(stage, stage.name("u1")) as socket:
        await socket.ask({"type": "dance"}, {"type": "error", "message": "Unknown message type: dance"})
        await socket.ask({"type": "join_room", "room": "a.b"}, {"type": "error", "message": ANY_TEXT})
        for kind, member in (("join_room", "room"), ("leave_room", "room"), ("subscribe_notifications", "types")):
            await socket.ask({"type": kind}, {"type": "error", "message": f"`{member}` is missing"})
        await socket.ask(
            {"type": "subscribe_notifications", "types": "security"}, {"type": "error", "message": ANY_TEXT}
        )
        await socket.ask("{", {"type": "error", "message": ANY_TEXT})


@table.row("several sockets per user")
async def several(stage: Stage) -> None:
    user = stage.name("u1")
    async with Page(stage, user) as phone:
        async with Page(stage, user) as laptop:
            for socket in (phone, laptop):
                await socket.live(f"user.{user}.transactions")
            await stage.publish(f"user.{user}.transactions", TRANSACTION)
            for socket in (phone, laptop):
                await socket.expect({"type": "transaction_update", "data": TRANSACTION})
        await stage.publish(f"user.{user}.transactions", {"status": "failed"})
        await phone.expect({"type": "transaction_update", "data": {"status": "failed"}})
        await phone.quiet()


def broadcast(what: str, subject: str, kind: str) -> None:
    @table.row(f"POST /ws/broadcast/{what}")
    async def row(stage: Stage) -> None:
        user, room = stage.name("u1"), stage.name("crypto")
        target = subject.replace("USER", user).replace("ROOM", room)
        backend, call = stage.token("backend", "backend"), f"/ws/broadcast/{what}"
        data = {"what": what, "tag": stage.tag}
        body: dict[str, object] = {"data": data}
        if "USER" in subject:
            body["user_id"] = user
        if "ROOM" in subject:
            body["room"] = room
        async with Page(stage, user) as socket:
            if "ROOM" in subject:
                await socket.send({"type": "join_room", "room": room})
            await socket.live(target)
            await stage.answers(200, {"success": True}, "POST", call, token=backend, body=body)
            await socket.expect({"type": kind, "data": data})
            await stage.answers(403, ..., "POST", call, token=stage.token(user), body=body)
            await stage.answers(401, ..., "POST", call, body=body)
            await stage.answers(
                400, ..., "POST", call, token=backend, body={k: v for k, v in body.items() if k != "data"}
            )
            await stage.answers(400, ..., "POST", call, token=backend)
            if "USER" in subject:
                await stage.answers(400, ..., "POST", call, token=backend, body=body | {"user_id": "*"})
                await stage.answers(400, ..., "POST", call, token=backend, body={"data": data})
            await socket.quiet()


broadcast("notification", "user.USER.notifications", "notification")
broadcast("transaction", "user.USER.transactions", "transaction_update")
broadcast("balance", "user.USER.balance", "balance_update")
broadcast("market", "room.ROOM", "market_update")
broadcast("announcement", "system.announcements", "system_announcement")


@table.row("POST /ws/broadcast/market without a room")
async def market_data(stage: Stage) -> None:
    async with Page(stage, stage.name("u1")) as socket:
        # The last message of another row may arrive first.
        socket.only = stage.tag
        await socket.send({"type": "join_room", "room": "market_data"})
        await socket.live("room.market_data")
        body = {"data": {"symbol": stage.name("AAPL")}}
        await stage.answers(
            200, {"success": True}, "POST", "/ws/broadcast/market", token=stage.token("backend", "backend"), body=body
        )
        await socket.expect({"type": "market_update", **body})


@table.row("a broadcast with an API key")
async def api_key(stage: Stage) -> None:
    user = stage.name("u1")
    body = {"user_id": user, "data": NOTIFICATION}
    async with Page(stage, user) as socket:
        await socket.live(f"user.{user}.notifications")
        await stage.answers(200, {"success": True}, "POST", "/ws/broadcast/notification", token=stage.key(), body=body)
        await socket.expect({"type": "notification", "data": NOTIFICATION})
        # A WebSocket still needs a token.
        await stage.refused(f"/ws/notifications?token={stage.key()}", 401)


@table.row("/ws/stats")
async def stats(stage: Stage) -> None:
    room = stage.name("market_data")
    async with Page(stage, stage.name("u1")) as one, Page(stage, stage.name("u2")) as two:
        for socket in (one, two):
            await socket.send({"type": "join_room", "room": room})
            await socket.live(f"room.{room}")

        async def names() -> None:
            status, got = await stage.http("GET", "/ws/stats", stage.token("backend", "backend"))
            if (
                status != 200
                or list(got) != ["total_connections", "unique_users", "rooms"]
                or got["rooms"].get(room) != 2
            ):
                raise Wrong(f"GET /ws/stats as backend: {status} {short(got)}, not 2 in {room}")
            if not AtLeast(2).matches(got["total_connections"]) or not AtLeast(2).matches(got["unique_users"]):
                raise Wrong(f"GET /ws/stats as backend: {short(got)}")

        await eventually(names)
        counts = {"total_connections": AtLeast(0), "unique_users": AtLeast(0), "rooms": {}}
        await stage.answers(200, counts, "GET", "/ws/stats", token=stage.token(stage.name("u1")))
        await stage.answers(401, ..., "GET", "/ws/stats")


@table.row("delivery statistics")
async def delivery(stage: Stage) -> None:
    room, token = stage.name("market_data"), stage.token("backend", "backend")

    async def counted(least: int) -> int:
        status, got = await stage.http("GET", "/ws/stats/delivery", token)
        if status != 200 or list(got) != ["delivered", "dropped"] or not AtLeast(least).matches(got["delivered"]):
            raise Wrong(f"GET /ws/stats/delivery: {status} {short(got)}, not {least} or more delivered")
        return got["delivered"]

    async with Page(stage, stage.name("u1")) as one, Page(stage, stage.name("u2")) as two:
        for socket in (one, two):
            await socket.send({"type": "join_room", "room": room})
            await socket.live(f"room.{room}")
        before = await counted(2)
        for price in range(5):
            await stage.publish(f"room.{room}", {"symbol": "AAPL", "price": price})
            for socket in (one, two):
                await socket.expect({"type": "market_update", "data": {"symbol": "AAPL", "price": price}})

        async def ten_more() -> None:
            await counted(before + 10)

        await eventually(ten_more)
    await stage.answers(401, ..., "GET", "/ws/stats/delivery")


@table.row("/health")
async def health(stage: Stage) -> None:
    await stage.answers(200, {"status": "ok"}, "GET", "/health")


@table.row("/ws/test")
async def console(stage: Stage) -> None:
    status, body = await stage.http("GET", "/ws/test")
    if not stage.console:
        if status != 404:
            raise Wrong(f"GET /ws/test: expected 404 where http.console is off, got {status}")
    elif status != 200 or "<html" not in str(body).lower():
        raise Wrong(f"GET /ws/test: expected a page where http.console is on, got {status} {short(body)}")
