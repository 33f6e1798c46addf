"""The snippets of the documents that publish, what surrounds them, and what connected pages receive.

A case has the program that its document shows. Where the documents are missing, `ours` makes the same calls.
"""

import json
from dataclasses import dataclass, field

from kit import ANY_TEXT


@dataclass(frozen=True)
class Page:
    path: str
    user: str
    wants: list[dict[str, object]]
    role: str = "user"
    # The message that subscribes, and later the one that requests.
    sends: dict[str, object] | None = None
    asks: dict[str, object] | None = None
    # A subject that arrives once the page is subscribed, with the members that its messages need. Without it, the answer
    # to the first message says that the page is subscribed.
    live: tuple[str, dict[str, object]] | None = None


@dataclass(frozen=True)
class Case:
    name: str
    # What only this block of the document contains.
    contains: str
    pages: list[Page]
    ours: str
    # What the snippet uses without defining it, and the calls of what it only defines.
    before: str = ""
    after: str = ""
    language: str = "python"
    # The last line of the output.
    prints: str = ""
    # Whether the program runs on. Then its first output is the line `ready`.
    stays: bool = False
    # The role of TIDEGATE_TOKEN.
    role: str = ""
    notes: list[str] = field(default_factory=list)


# FinanceGPT Pro


def person(user: str, *wants: dict[str, object], live: str = "", asks: dict[str, object] | None = None) -> Page:
    return Page(f"/ws/{user}", user, list(wants), live=(live or f"user.{user}.fraud_alert", {}), asks=asks)


JAVASCRIPT = "await (await connection()).drain();\n"
TRANSACTION = {"id": "TXN1", "amount": -5000}
BALANCE = {"type": "balance_update", "new_balance": 40000.5, "transaction": TRANSACTION}
FRAUD = {"type": "URGENT_FRAUD_ALERT", "message": ANY_TEXT, "action_required": True}
PRICE = {"type": "MARKET_UPDATE", "stock": "RELIANCE.NS", "price": 2891.4, "change": -12.1}
SHARED = {"type": "SHARED_ACCOUNT_UPDATE", "update": {"withdrawn": 5000}}
EVERYONE = "system.system_notification"
DOTTED = {"type": "fraud.alert", "risk": 9}
EVERYBODY = {"type": "fraud alert", "risk": 8}

FINANCEGPT = [
    Case(
        "the endpoint answers get_balance",
        "async def websocket_endpoint",
        [person("USR001", {"balance": 45000.5}, asks={"type": "get_balance", "account": "savings"})],
        before="""
import asyncio
from types import SimpleNamespace
from financegpt import active_websockets
from financegpt_requests import serve
from tidegate_backend import connection
class WebSocket: ...
class WebSocketDisconnect(Exception): ...
app = SimpleNamespace(websocket=lambda path: lambda endpoint: endpoint)
active_websockets = {}
get_user_balance = {"USR001": 45000.5}.get
""",
        ours="""
async def websocket_endpoint(websocket, user_id):
    await websocket.accept()
    while True:
        if (await websocket.receive_json())["type"] == "get_balance":
            await websocket.send_json({"balance": get_user_balance(user_id)})
""",
        # The first PING of nats-py may overtake unwritten data, the second may not.
        after="""
await serve(websocket_endpoint)
for _ in range(2):
    await (await connection()).flush()
print("ready", flush=True)
await asyncio.Future()
""",
        stays=True,
        notes=["`app`, `WebSocket`, `get_user_balance` of the application"],
    ),
    Case(
        "handle_transaction",
        "async def handle_transaction",
        [person("USR001", BALANCE, live=EVERYONE), person("USR002", BALANCE, live=EVERYONE)],
        before="""
from financegpt import active_websockets
process_transaction = lambda transaction: 40000.5
""",
        ours="""
async def handle_transaction(transaction):
    message = {"type": "balance_update", "new_balance": process_transaction(transaction), "transaction": transaction}
    for ws in active_websockets.values():
        await ws.send_json(message)
""",
        after=f"await handle_transaction({TRANSACTION})\n",
        notes=["`process_transaction` of the application"],
    ),
    Case(
        "active_websockets[user_id]",
        "",
        [person("USR001", BALANCE)],
        ours=f"""
from financegpt import active_websockets
await active_websockets["USR002"].send_json({BALANCE})
await active_websockets["USR001"].send_json({BALANCE})
""",
    ),
    Case(
        "a type that is no token",
        "",
        [person("USR001", DOTTED, EVERYBODY, live=EVERYONE)],
        ours=f"""
from financegpt import active_websockets
await active_websockets["USR001"].send_json({DOTTED})
for ws in active_websockets.values():
    await ws.send_json({EVERYBODY})
""",
    ),
    Case(
        "a type that is no token, in JavaScript",
        "",
        [person("USR001", DOTTED, EVERYBODY, live=EVERYONE)],
        language="javascript",
        before="import { broadcast, connection, notifyUser } from './financegpt.mjs';\n",
        ours=f"""
await notifyUser('USR001', {json.dumps(DOTTED)});
await broadcast({json.dumps(EVERYBODY)});
""",
        after=JAVASCRIPT,
    ),
    Case(
        "broadcastToUser",
        "await broadcastToUser(",
        [person("USR001", FRAUD)],
        language="javascript",
        before="import { broadcastToUser, connection } from './financegpt.mjs';\nconst userId = 'USR001';\n",
        ours="""
await broadcastToUser(userId, { type: 'URGENT_FRAUD_ALERT', message: '₹35,000!', action_required: true });
""",
        after=JAVASCRIPT,
    ),
    Case(
        "broadcast",
        "await broadcast(",
        [person("USR001", PRICE, live=EVERYONE), person("USR002", PRICE, live=EVERYONE)],
        language="javascript",
        before="""
import { EventEmitter } from 'node:events';
import { broadcast, connection } from './financegpt.mjs';
const marketFeed = new EventEmitter();
""",
        ours="""
marketFeed.on('price_update', ({ symbol, price, change }) =>
  broadcast({ type: 'MARKET_UPDATE', stock: symbol, price, change }),
);
""",
        after="""
for (const listener of marketFeed.listeners('price_update'))
  await listener({ symbol: 'RELIANCE.NS', price: 2891.4, change: -12.1 });
"""
        + JAVASCRIPT,
        notes=["`marketFeed` of the application"],
    ),
    Case(
        "activeWebsockets",
        "activeWebsockets[userId]",
        [person("USR001", FRAUD)],
        language="javascript",
        before="import { activeWebsockets, connection } from './financegpt.mjs';\n",
        ours="""
const notifyUser = (userId, notification) => activeWebsockets[userId].send(JSON.stringify(notification));
""",
        after="""
await notifyUser('USR001', { type: 'URGENT_FRAUD_ALERT', message: '₹35,000!', action_required: true });
"""
        + JAVASCRIPT,
    ),
    Case(
        "notifyUser",
        "async function handleSharedAccountUpdate",
        [person("USR001", SHARED), person("USR002", SHARED)],
        language="javascript",
        before="""
import { connection, notifyUser } from './financegpt.mjs';
const getAccountUsers = async () => ['USR001', 'USR002'];
""",
        ours="""
const handleSharedAccountUpdate = async (accountId, update) => {
  for (const userId of await getAccountUsers(accountId))
    await notifyUser(userId, { type: 'SHARED_ACCOUNT_UPDATE', update });
};
""",
        after="await handleSharedAccountUpdate('ACC1', { withdrawn: 5000 });\n" + JAVASCRIPT,
        notes=["`getAccountUsers` of the application"],
    ),
]

# hoardrun


def hoardrun(*wants: tuple[str, object], live: str = "user.u1.notifications", room: str = "") -> Page:
    joins = {"type": "join_room", "room": room} if room else None
    messages = [{"type": kind, "data": data} for kind, data in wants]
    return Page("/ws/notifications", "u1", messages, sends=joins, live=(live, {}))


NOTIFICATION = {"id": "n1", "title": "Login", "message": "New device", "type": "security", "priority": "high"}
NOTIFICATION |= {"metadata": {"ip": "10.0.0.1"}, "created_at": "2025-01-05T10:00:00"}
DONE = {"transaction_id": "t1", "status": "completed", "amount": 120.5, "timestamp": "2025-01-05T10:00:00"}
QUOTE = {"symbol": "AAPL", "price": 190.1}

HOARDRUN = [
    Case(
        "notifications service",
        "if NotificationChannel.IN_APP in request.channels:",
        [hoardrun(("notification", NOTIFICATION))],
        before="""
from datetime import datetime
from enum import Enum
from types import SimpleNamespace
from app.core.websocket import broadcast_notification
class NotificationChannel(Enum):
    IN_APP = "in_app"
class Kind(Enum):
    SECURITY, HIGH = "security", "high"
request = SimpleNamespace(channels=[NotificationChannel.IN_APP])
notification = SimpleNamespace(
    id="n1", title="Login", message="New device", type=Kind.SECURITY, priority=Kind.HIGH, metadata={"ip": "10.0.0.1"},
    created_at=datetime(2025, 1, 5, 10),
)
user_id = "u1"
""",
        ours=f"await broadcast_notification({NOTIFICATION}, user_id)\n",
        notes=["`notification`, `request`, `user_id` of the application"],
    ),
    Case(
        "the five functions",
        "await broadcast_system_announcement(",
        [
            hoardrun(
                ("notification", {"id": "n1"}),
                ("transaction_update", {"transaction_id": "t1"}),
                ("balance_update", {"balance": 879.5}),
                ("market_update", QUOTE),
                ("system_announcement", {"title": "Maintenance"}),
                live="room.market_data",
                room="market_data",
            )
        ],
        before=f"""
user_id = "u1"
notification_data, transaction_data, balance_data = {{"id": "n1"}}, {{"transaction_id": "t1"}}, {{"balance": 879.5}}
market_data, announcement_data = {QUOTE}, {{"title": "Maintenance"}}
""",
        ours="""
import app.core.websocket as websocket
await websocket.broadcast_notification(notification_data, user_id)
await websocket.broadcast_transaction_update(transaction_data, user_id)
await websocket.broadcast_balance_update(balance_data, user_id)
await websocket.broadcast_market_update(market_data)
await websocket.broadcast_system_announcement(announcement_data)
""",
        notes=["`notification_data` and the like"],
    ),
    Case(
        "process_transaction",
        "async def process_transaction",
        [hoardrun(("transaction_update", DONE))],
        before="""
from datetime import datetime
from types import SimpleNamespace
from app.core.websocket import broadcast_transaction_update
""",
        ours="""
async def process_transaction(self, transaction_data):
    result = await self.complete_transaction(transaction_data)
    update = {"transaction_id": result.id, "status": result.status, "amount": result.amount}
    update["timestamp"] = result.completed_at.isoformat()
    await broadcast_transaction_update(update, transaction_data.user_id)
    return result
""",
        after="""
class Service:
    async def complete_transaction(self, data):
        return SimpleNamespace(id="t1", status="completed", amount=120.5, completed_at=datetime(2025, 1, 5, 10))
await process_transaction(Service(), SimpleNamespace(user_id="u1"))
""",
        notes=["imports `broadcast_transaction_update`, which it calls", "`complete_transaction` of the application"],
    ),
    Case(
        "a notification for everyone, and a room",
        "",
        [hoardrun(("notification", {"id": "n2"}), ("market_update", QUOTE), live="room.crypto", room="crypto")],
        ours=f"""
from app.core.websocket import broadcast_market_update, broadcast_notification
await broadcast_notification({{"id": "n2"}})
await broadcast_market_update({QUOTE}, "crypto")
""",
    ),
    Case(
        "statistics",
        "",
        [hoardrun(live="room.counted", room="counted")],
        ours="""
import json
from app.core.websocket import manager
counts = [manager.get_connection_count(), manager.get_user_count(), manager.get_room_info()["counted"]]
print(json.dumps(counts))
""",
        prints="[1, 1, 1]",
        role="backend",
    ),
]

# Stock Agent


def stock_agent(channel: str, *wants: dict[str, object], **members: object) -> Page:
    sends = {"type": "subscribe", "channel": channel, **members}
    return Page("/ws/browser-test", "", list(wants), sends=sends)


QUOTES = {"type": "price_update", "symbol": "AAPL"}

STOCK_AGENT = [
    Case(
        "price_streaming_task",
        "update_interval = 1",
        [stock_agent("prices", QUOTES, QUOTES, symbols=["AAPL"])],
        before="from api.websocket import price_streaming_task\n",
        ours="update_interval = 1\n",
        after='print("ready", flush=True)\nawait price_streaming_task(update_interval)\n',
        stays=True,
    ),
    Case(
        "the functions of the manager",
        "",
        [
            stock_agent("alerts", {"type": "alert_triggered", "data": {"id": "alert-123"}}),
            stock_agent("signals", {"type": "trading_signal", "data": {"symbol": "AAPL", "action": "buy"}}),
            stock_agent("notifications", {"type": "notification", "data": {"id": "notif-456"}}),
            stock_agent("prices", QUOTES | {"symbol": "MSFT", "data": {"price": 1}}, symbols=["MSFT"]),
        ],
        ours="""
from api.websocket import manager
await manager.broadcast_alert({"id": "alert-123"})
await manager.broadcast_signal({"symbol": "AAPL", "action": "buy"})
await manager.broadcast_notification({"id": "notif-456"})
await manager.broadcast_price_update("MSFT", {"price": 1})
print(manager.get_stats()["total_connections"])
""",
        prints="4",
    ),
]

# Sentio


def sentio(path: str, live: str, kind: str, data: object, role: str = "user", **members: object) -> Page:
    sends = {"action": "subscribe", **members}
    wants = [{"type": kind, "data": data, "timestamp": ANY_TEXT}] if kind else []
    return Page(f"/ws/{path}", "user_001", wants, role, sends, live=(live, {"symbol": "AAPL"}))


SIGNAL = {"symbol": "AAPL", "signal": "buy", "confidence": 0.85, "timestamp": ANY_TEXT}
EARNINGS = {"portfolio_value": 100000.0, "total_return": 5000.0, "daily_pnl": 250.0, "win_rate": 0.65}
EXECUTED = {"type": "success", "title": "Trade Executed", "message": "Your AAPL buy order has been executed"}
USERS = {"total_users": 150, "active_subscriptions": 120, "monthly_revenue": 15000.0}
MANAGER = "from datetime import datetime\n"
IMPORT = "from sentio.data.dashboard_websocket_service import dashboard_ws_manager\n"

SENTIO = [
    Case(
        "broadcast_trade_signals",
        "dashboard_ws_manager.broadcast_trade_signals(",
        [sentio("trade-signals", "signals.AAPL", "trade_signals", [SIGNAL], symbols=["AAPL", "GOOGL"])],
        before=MANAGER,
        ours=IMPORT
        + """
signal = {"symbol": "AAPL", "signal": "buy", "confidence": 0.85, "timestamp": datetime.now().isoformat()}
await dashboard_ws_manager.broadcast_trade_signals([signal, signal | {"symbol": "TSLA"}])
""",
        notes=["imports `datetime`"],
    ),
    Case(
        "broadcast_earnings",
        "dashboard_ws_manager.broadcast_earnings(",
        [sentio("earnings", "user.user_001.earnings", "earnings", EARNINGS, user_id="user_001")],
        ours=IMPORT + f"await dashboard_ws_manager.broadcast_earnings('user_001', {EARNINGS})\n",
    ),
    Case(
        "broadcast_notification",
        "dashboard_ws_manager.broadcast_notification(",
        [
            sentio(
                "notifications",
                "user.user_001.notifications",
                "notification",
                EXECUTED | {"timestamp": ANY_TEXT},
                user_id="user_001",
            )
        ],
        before=MANAGER,
        ours=IMPORT
        + f"""
notification = {EXECUTED} | {{"timestamp": datetime.now().isoformat()}}
await dashboard_ws_manager.broadcast_notification('user_001', notification)
""",
        notes=["imports `datetime`"],
    ),
    Case(
        "broadcast_admin_update",
        "dashboard_ws_manager.broadcast_admin_update(",
        [sentio("admin", "admin.users", "admin_users", USERS, role="admin")],
        ours=IMPORT + f"await dashboard_ws_manager.broadcast_admin_update('users', {USERS})\n",
    ),
]

# ARA

AAPL = {"symbol": "AAPL"}
PREDICTION = {"predicted_price": 150.25, "confidence": 0.85, "timestamp": "2024-01-01T12:00:00Z"}
MARKET = {"price": 149.5, "volume": 1000000, "timestamp": "2024-01-01T12:00:00Z"}
ALERT = {"type": "price_alert", "symbol": "AAPL", "message": "Price exceeded $150", "severity": "high"}


def ara(path: str, live: str, *wants: dict[str, object], user: str = "") -> Page:
    return Page(f"/ws/{path}", user, list(wants), live=(live, {}))


ARA = [
    Case(
        "the three functions",
        "await send_alert(",
        [
            ara("predictions/AAPL", "predictions.AAPL", {"type": "prediction_update"} | AAPL | {"data": PREDICTION}),
            ara("market-data/AAPL", "prices.AAPL", {"type": "market_data_update"} | AAPL | {"data": MARKET}),
            ara("alerts", "alerts", {"type": "alert", "data": ALERT}),
        ],
        ours=f"""
from ara.api.websocket.handlers import broadcast_market_data, broadcast_prediction_update, send_alert
await broadcast_prediction_update(symbol="aapl", prediction_data={PREDICTION})
await broadcast_market_data(symbol="AAPL", market_data={MARKET})
await send_alert(alert_data={ALERT})
""",
    ),
    Case(
        "an alert for one user",
        "",
        [ara("alerts", "alerts", {"type": "alert", "data": ALERT}, user="alice"), ara("alerts", "alerts", user="bob")],
        ours=f"""
from ara.api.websocket.handlers import send_alert
await send_alert({ALERT}, user_id="alice")
""",
    ),
    Case(
        "connection statistics",
        "connection_manager.get_connection_count()",
        [
            ara("predictions/AAPL", "predictions.AAPL"),
            ara("predictions/TSLA", "predictions.TSLA"),
            ara("alerts", "alerts"),
        ],
        ours="""
from ara.api.websocket.connection_manager import connection_manager
total, channels = connection_manager.get_connection_count(), connection_manager.get_channels()
predictions_count = connection_manager.get_connection_count("predictions")
""",
        after="print(total, predictions_count, sorted(channels))\n",
        prints="3 2 ['alerts', 'predictions']",
    ),
]

# The number of each document, and the system that it describes.
DOCUMENTS = {
    "financegpt": ("000", FINANCEGPT),
    "hoardrun": ("001", HOARDRUN),
    "stock-agent": ("002", STOCK_AGENT),
    "sentio": ("003", SENTIO),
    "ara": ("004", ARA),
}
