"""hoardrun (document 001): notifications, transactions and balances on one socket, rooms, and broadcasts over HTTP."""

import time

from kit import ANY_TEXT, MILLISECONDS, AtLeast, Stage, Table, Wrong, eventually, same, short

table = Table("hoardrun")

PONG = {"type": "pong", "timestamp": MILLISECONDS}
# A token of the public server has a type, and no role, or a role of that server.
ACCESS = {"token_type": "access"}
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


def update(kind: str, data: object) -> dict[str, object]:
    return {"type": kind, "data": data, "timestamp": MILLISECONDS}


def backend(stage: Stage) -> str:
    return stage.token("backend", "backend", **ACCESS)


class Page:
    """A page that has received the greeting."""

    def __init__(self, stage: Stage, user: str, **claims: object) -> None:
        self.user = user
        self._socket = stage.socket(f"/ws/notifications?token={stage.token(user, **ACCESS | claims)}")

    async def __aenter__(self):
        socket = await self._socket.__aenter__()
        await socket.expect(
            {
                "type": "connection_established",
                "message": "Connected to real-time notifications",
                "user_id": self.user,
                "timestamp": MILLISECONDS,
            }
        )
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


async def join(socket, room: str) -> None:
    await socket.ask(
        {"type": "join_room", "room": room}, {"type": "room_joined", "room": room, "timestamp": MILLISECONDS}
    )


async def leave(socket, room: str) -> None:
    await socket.ask(
        {"type": "leave_room", "room": room}, {"type": "room_left", "room": room, "timestamp": MILLISECONDS}
    )


@table.row("tokens of the public server")
async def tokens(stage: Stage) -> None:
    user = stage.name("u1")
    now = time.time()
    claims = {"email": "ann@example.com", "iat": now, "exp": now + 600}
    access = claims | ACCESS | {"is_active": True, "is_verified": True}
    for token in (access, access | {"role": "user"}, access | {"role": "premium"}, access | {"role": "admin"}):
        async with Page(stage, user, **{"role": None} | token) as socket:
            await socket.live(f"user.{user}.notifications")
    # Refresh tokens have the same key. The public server has two kinds of them.
    for refresh in (claims | {"token_type": "refresh"}, claims | {"type": "refresh"}):
        token = stage.token(user, **{"role": None} | refresh)
        await stage.refused(f"/ws/notifications?token={token}", 401)


@table.row("join_room")
async def join_room(stage: Stage) -> None:
    crypto, forex, stocks = stage.name("crypto"), stage.name("forex"), stage.name("stocks")
    async with Page(stage, stage.name("u1")) as socket:
        for room in (crypto, forex, forex):
            await join(socket, room)
        await socket.live(f"room.{crypto}")
        await socket.live(f"room.{forex}")
        await stage.publish(f"room.{stocks}", {"symbol": "AAPL"})
        for room, data in ((crypto, {"symbol": "BTC", "price": 1}), (forex, {"pair": "EURUSD"})):
            await stage.publish(f"room.{room}", data)
            await socket.expect(update("market_update", data))
        await socket.quiet()


@table.row("messages in a room")
async def messages(stage: Stage) -> None:
    family, other = stage.name("family_42"), stage.name("family_43")
    async with Page(stage, stage.name("u1")) as socket:
        await join(socket, family)
        await socket.live(f"room.{family}.chat")
        await stage.publish(f"room.{other}.chat", {"text": "elsewhere"})
        await stage.publish(f"room.{family}.chat", {"from": "u2", "text": "hi"})
        await socket.expect(update("chat", {"from": "u2", "text": "hi"}))
        await stage.publish(f"room.{family}", {"text": "market data, as always"})
        await socket.expect(update("market_update", {"text": "market data, as always"}))
        await socket.quiet()


@table.row("a room with a dot")
async def dotted(stage: Stage) -> None:
    brk = stage.name("BRK")
    async with Page(stage, stage.name("u1")) as socket, Page(stage, stage.name("u2")) as other:
        await join(socket, brk)
        await socket.live(f"room.{brk}")
        # A room is one token, so there is no room with a dot whose messages the room before the dot could get.
        await other.ask({"type": "join_room", "room": f"{brk}.B"}, {"type": "error", "message": ANY_TEXT})
        for target in (f"{brk}.B", f"{brk}%2EB"):
            url = f"/ws/broadcast/market?room={target}"
            status, got = await stage.http("POST", url, backend(stage), {"symbol": "BRK.B", "price": 450})
            if status != 400:
                raise Wrong(f"POST {url}: {status} {short(got)}")
        await stage.publish(f"room.{brk}", {"symbol": "BRK.A", "price": 1})
        await socket.expect(update("market_update", {"symbol": "BRK.A", "price": 1}))
        await socket.quiet()
        await other.quiet()


@table.row("prices are in the room market_data")
async def prices(stage: Stage) -> None:
    aapl, brk = stage.name("AAPL"), f"{stage.name('BRK')}.B"
    async with Page(stage, stage.name("u1")) as socket:
        # The last prices of other rows may arrive first.
        socket.only = stage.tag
        room = "market_data"
        await socket.send({"type": "join_room", "room": room})
        for subject in (f"prices.{aapl}", f"prices.{brk}", f"market.{aapl}"):
            await socket.live(subject)
            symbol = subject.partition(".")[2]
            await stage.publish(subject, {"price": 190.1})
            await socket.expect(update("market_update", {"symbol": symbol, "price": 190.1}))
            await stage.publish(subject, {"symbol": stage.tag, "price": 190.2})
            await socket.expect(update("market_update", {"symbol": stage.tag, "price": 190.2}))


@table.row("leave_room")
async def leave_room(stage: Stage) -> None:
    crypto, forex = stage.name("crypto"), stage.name("forex")
    async with Page(stage, stage.name("u1")) as socket:
        for room in (crypto, forex):
            await join(socket, room)
            await socket.live(f"room.{room}")
        await leave(socket, crypto)
        await leave(socket, stage.name("nowhere"))
        await stage.publish(f"room.{crypto}", {"symbol": "BTC"})
        await stage.publish(f"room.{forex}", {"pair": "EURUSD"})
        await socket.expect(update("market_update", {"pair": "EURUSD"}))
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
            await socket.ask(
                {"type": "subscribe_notifications", "types": kinds},
                {"type": "subscription_updated", "subscriptions": kinds, "timestamp": MILLISECONDS},
            )
            await stage.publish(f"user.{user}.notifications", {"id": "n2", "type": unwanted})
            await stage.publish(f"user.{user}.notifications", {"id": "n3"})
            await stage.publish(f"user.{user}.notifications", {"id": "n4", "type": wanted})
            await socket.expect(update("notification", {"id": "n4", "type": wanted}))
            await socket.quiet()
        await stage.publish(f"user.{user}.balance", {"balance": 1})
        await socket.expect(update("balance_update", {"balance": 1}))


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
            await socket.expect(update(kind, mine))
            await socket.quiet()


pushed("notification", "user.USER.notifications", NOTIFICATION)
pushed("transaction_update", "user.USER.transactions", TRANSACTION)
pushed("balance_update", "user.USER.balance", {"balance": 879.5, "currency": "USD"})
pushed("system_announcement", "system.announcements", {"title": "Maintenance", "message": "tonight"})


@table.row("market_update")
async def market(stage: Stage) -> None:
    room = stage.name("market_data")
    async with Page(stage, stage.name("u1")) as socket:
        await join(socket, room)
        await socket.live(f"room.{room}")
        await stage.publish(f"room.{room}", {"symbol": "AAPL", "price": 190.1})
        await socket.expect(update("market_update", {"symbol": "AAPL", "price": 190.1}))


@table.row("error")
async def error(stage: Stage) -> None:
    async with Page(stage, stage.name("u1")) as socket:
        await socket.ask({"type": "dance"}, {"type": "error", "message": "Unknown message type: dance"})
        await socket.ask({"type": "join_room", "room": "a b"}, {"type": "error", "message": ANY_TEXT})
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
                await socket.expect(update("transaction_update", TRANSACTION))
        await stage.publish(f"user.{user}.transactions", {"status": "failed"})
        await phone.expect(update("transaction_update", {"status": "failed"}))
        await phone.quiet()


def broadcast(what: str, query: str, subject: str, kind: str, answer: dict[str, object]) -> None:
    """A POST of the public backend: the body is the data, and the query says for whom."""

    @table.row(f"POST /ws/broadcast/{what}{query}")
    async def row(stage: Stage) -> None:
        user, room = stage.name("u1"), stage.name("crypto")

        def named(text: str) -> str:
            return text.replace("USER", user).replace("ROOM", room)

        token, call = backend(stage), f"/ws/broadcast/{what}{named(query)}"
        data = {"what": what, "tag": stage.tag}
        wanted = {"success": True} | {key: named(str(value)) for key, value in answer.items()}
        async with Page(stage, user) as socket:
            # Other rows publish for all users too.
            socket.only = stage.tag
            if "ROOM" in subject:
                await join(socket, room)
            await socket.live(named(subject))
            await stage.answers(200, wanted, "POST", call, token=token, body=data)
            await socket.expect(update(kind, data))
            await stage.answers(403, ..., "POST", call, token=stage.token(user, **ACCESS), body=data)
            await stage.answers(401, ..., "POST", call, body=data)
            await stage.answers(400, ..., "POST", call, token=token)
            if "USER" in query:
                await stage.answers(400, ..., "POST", call.replace(user, "*"), token=token, body=data)
            await socket.quiet()


DONE = "broadcasted successfully"
NOTIFIED = f"Notification {DONE}"
FOR_USER = "?user_id=USER"
broadcast(
    "notification",
    FOR_USER,
    "user.USER.notifications",
    "notification",
    {"message": NOTIFIED, "target": "user USER"},
)
broadcast("notification", "", "system.notifications", "notification", {"message": NOTIFIED, "target": "all users"})
for kind, subject, name in (("transaction", "transactions", "Transaction"), ("balance", "balance", "Balance")):
    answer = {"message": f"{name} update {DONE}", "user_id": "USER"}
    broadcast(kind, FOR_USER, f"user.USER.{subject}", f"{kind}_update", answer)
broadcast("market", "?room=ROOM", "room.ROOM", "market_update", {"message": f"Market update {DONE}", "room": "ROOM"})
broadcast(
    "announcement", "", "system.announcements", "system_announcement", {"message": f"System announcement {DONE}"}
)


@table.row("POST /ws/broadcast/* without a user")
async def nobody(stage: Stage) -> None:
    token, data = backend(stage), {"balance": 1}
    for what in ("transaction", "balance"):
        await stage.answers(400, ..., "POST", f"/ws/broadcast/{what}", token=token, body=data)
    # A notification that names its user in the body would otherwise go to all users.
    for body in ({"user_id": "u1", "data": data}, {"user_id": "u1", "title": "secret"}):
        await stage.answers(400, ..., "POST", "/ws/broadcast/notification", token=token, body=body)


@table.row("POST /ws/broadcast/market without a room")
async def market_data(stage: Stage) -> None:
    async with Page(stage, stage.name("u1")) as socket:
        # The last message of another row may arrive first.
        socket.only = stage.tag
        await socket.send({"type": "join_room", "room": "market_data"})
        await socket.live("room.market_data")
        data = {"symbol": stage.name("AAPL")}
        wanted = {"success": True, "message": f"Market update {DONE}", "room": "market_data"}
        await stage.answers(200, wanted, "POST", "/ws/broadcast/market", token=backend(stage), body=data)
        await socket.expect(update("market_update", data))


@table.row("a broadcast with an API key")
async def api_key(stage: Stage) -> None:
    user = stage.name("u1")
    async with Page(stage, user) as socket:
        await socket.live(f"user.{user}.notifications")
        call = f"/ws/broadcast/notification?user_id={user}"
        await stage.answers(200, ..., "POST", call, token=stage.key(), body=NOTIFICATION)
        await socket.expect(update("notification", NOTIFICATION))
        # A WebSocket still needs a token.
        await stage.refused(f"/ws/notifications?token={stage.key()}", 401)


@table.row("/ws/stats")
async def stats(stage: Stage) -> None:
    room = stage.name("market_data")
    async with Page(stage, stage.name("u1")) as one, Page(stage, stage.name("u2")) as two:
        for socket in (one, two):
            await join(socket, room)
            await socket.live(f"room.{room}")
        counts = {"total_connections": AtLeast(2), "unique_users": AtLeast(2), "timestamp": MILLISECONDS}

        async def names() -> None:
            status, got = await stage.http("GET", "/ws/stats", backend(stage))
            rooms = got["data"].pop("rooms", {}) if status == 200 else {}
            if rooms.get(room) != 2 or not same({"success": True, "data": counts}, got):
                raise Wrong(f"GET /ws/stats as backend: {status} {short(got)} {short(rooms)}, not 2 in {room}")

        await eventually(names)
        few = {"total_connections": AtLeast(0), "unique_users": AtLeast(0), "rooms": {}, "timestamp": MILLISECONDS}
        wanted = {"success": True, "data": few}
        await stage.answers(200, wanted, "GET", "/ws/stats", token=stage.token(stage.name("u1"), **ACCESS))
        await stage.answers(401, ..., "GET", "/ws/stats")


@table.row("delivery statistics")
async def delivery(stage: Stage) -> None:
    room = stage.name("market_data")

    async def counted(least: int) -> int:
        status, got = await stage.http("GET", "/ws/stats/delivery", backend(stage))
        data = {"delivered": AtLeast(least), "dropped": AtLeast(0), "timestamp": MILLISECONDS}
        if status != 200 or not same({"success": True, "data": data}, got):
            raise Wrong(f"GET /ws/stats/delivery: {status} {short(got)}, not {least} or more delivered")
        return got["data"]["delivered"]

    async with Page(stage, stage.name("u1")) as one, Page(stage, stage.name("u2")) as two:
        for socket in (one, two):
            await join(socket, room)
            await socket.live(f"room.{room}")
        before = await counted(2)
        for price in range(5):
            await stage.publish(f"room.{room}", {"symbol": "AAPL", "price": price})
            for socket in (one, two):
                await socket.expect(update("market_update", {"symbol": "AAPL", "price": price}))

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
