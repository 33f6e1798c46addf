#!/usr/bin/env python3
"""Publishes on NATS what the backend of one of the five systems in vocabularies/ would publish.

python feed.py stock-agent                    publish one of each event every second, until Ctrl-C
python feed.py stock-agent --every 100        ten times as often
python feed.py stock-agent --once             publish one of each event, and exit
python feed.py financegpt --serve             also answer the requests of its pages and tools
"""

import argparse
import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

Event = tuple[str, object]
Answer = Callable[[str, dict], object]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def about(price: float) -> float:
    return round(price * random.uniform(0.99, 1.01), 2)


# Events. The subject has the recipient or the topic; the payload is what the page shows.


def financegpt(user: str, n: int) -> list[Event]:
    balance = about(45000)
    # The last token of the subject is the type of the event; the payload has the other members.
    return [
        (f"user.{user}.balance_update", {"new_balance": balance, "transaction": {"id": f"TXN{n}", "amount": -5000}}),
        (f"user.{user}.transaction_alert", {"amount": about(1200), "merchant": "Cafe"}),
        (f"user.{user}.fraud_alert", {"alert_id": f"alert-{n}", "message": "FRAUD ALERT! Block card?"}),
        (f"user.{user}.goal_progress", {"goal": "car", "percent": n % 101}),
        (f"user.{user}.market_update", {"holding": "INFY", "value": about(15000)}),
        (f"user.{user}.bill_reminder", {"bill": "rent", "due": "2026-12-01"}),
        (f"user.{user}.insight_ready", {"insight": "You spend less on Mondays"}),
        (f"user.{user}.system_notification", {"message": "maintenance at night"}),
        (
            f"user.{user}.URGENT_FRAUD_ALERT",
            {"message": "Suspicious ₹35,000 transaction detected!", "action_required": True},
        ),
        # One publication for all users of the account.
        ("account.ACC1.updates", {"by": user, "withdrawn": 5000, "new_balance": balance}),
        ("market.INFY", {"symbol": "INFY", "price": about(1500), "change": about(1)}),
        ("market.RELIANCE", {"symbol": "RELIANCE", "price": about(2891.4), "change": about(-12.1)}),
        # MCP clients receive it as the notification notifications/tools/list_changed.
        ("mcp.notify.tools.list_changed", {}),
    ]


def hoardrun(user: str, n: int) -> list[Event]:
    return [
        (
            f"user.{user}.notifications",
            {
                "id": f"n{n}",
                "title": "Login",
                "message": "New device",
                "type": random.choice(["transaction", "security", "savings"]),
                "priority": "high",
                "metadata": {},
                "created_at": now(),
            },
        ),
        (
            f"user.{user}.transactions",
            {"transaction_id": f"t{n}", "status": "completed", "amount": about(120), "timestamp": now()},
        ),
        (f"user.{user}.balance", {"balance": about(880), "currency": "USD"}),
        ("room.market_data", {"symbol": "AAPL", "price": about(190)}),
        ("room.crypto", {"symbol": "BTC", "price": about(90000)}),
        ("system.announcements", {"title": "Maintenance", "message": "tonight"}),
    ]


def stock_agent(user: str, n: int) -> list[Event]:
    events: list[Event] = []
    for symbol, start in {"AAPL": 185.5, "MSFT": 401.0, "GOOGL": 140.0}.items():
        price = about(start)
        change = round(price - start, 2)
        quote = {"price": price, "change": change, "change_pct": round(change / start * 100, 2)}
        book = {"volume": 45000000 + n, "bid": round(price - 0.05, 2), "ask": round(price + 0.05, 2)}
        events.append((f"prices.{symbol}", quote | book))
    alert = {"id": f"alert-{n}", "symbol": "AAPL", "type": "price_threshold", "message": "AAPL crossed $185"}
    return [
        *events,
        ("alerts", alert | {"severity": "info"}),
        ("signals", {"symbol": "AAPL", "action": "buy", "confidence": 0.85, "reasoning": "Strong bullish momentum..."}),
        ("system.notifications", {"id": f"notif-{n}", "message": "Model training completed", "type": "success"}),
        (f"user.{user}.notifications", {"id": f"mine-{n}", "message": "Order filled", "type": "info"}),
        (f"user.{user}.portfolio", {"value": about(100000), "positions": {"AAPL": 10}}),
    ]


def sentio(user: str, n: int) -> list[Event]:
    signals = [
        (f"signals.{symbol}", {"symbol": symbol, "signal": signal, "confidence": 0.85, "timestamp": now()})
        for symbol, signal in [("AAPL", "buy"), ("GOOGL", "hold"), ("MSFT", "sell")]
    ]
    earnings = {"portfolio_value": about(100000), "total_return": 5000.0, "daily_pnl": 250.0, "win_rate": 0.65}
    notification = {"id": n, "type": "success", "title": "Trade Executed", "timestamp": now()}
    return [
        *signals,
        ("prices.AAPL", {"symbol": "AAPL", "price": about(190)}),
        (f"user.{user}.earnings", earnings),
        (f"user.{user}.notifications", notification | {"message": "Your AAPL buy order has been executed"}),
        ("admin.users", {"total_users": 150, "active_subscriptions": 120, "monthly_revenue": 15000.0}),
        ("admin.revenue", {"monthly_revenue": 15000.0}),
    ]


def ara(_user: str, _n: int) -> list[Event]:
    alert = {"type": "price_alert", "symbol": "AAPL", "message": "Price exceeded $150", "severity": "high"}
    return [
        ("predictions.AAPL", {"predicted_price": about(150.25), "confidence": 0.85, "timestamp": now()}),
        ("predictions.TSLA", {"predicted_price": about(200), "confidence": 0.7, "timestamp": now()}),
        ("prices.AAPL", {"price": about(149.5), "volume": 1000000, "timestamp": now()}),
        ("alerts", alert),
    ]


# Services. Each gets the tokens of the subject, and the client's message.


def balance(_subject: str, request: dict) -> object:
    return {"savings": 45000.5, "current": 1200.0}.get(request.get("account", "savings"), 0)


def transactions(_subject: str, request: dict) -> object:
    all_of_them = [{"id": f"TXN{n}", "amount": -100 * n} for n in range(1, 21)]
    return all_of_them[: request.get("limit", 10)]


def acknowledge(_subject: str, _request: dict) -> object:
    return {"ok": True}


TOOLS = [
    {
        "name": "loan_calculator",
        "description": "The monthly payment of a loan",
        "inputSchema": {
            "type": "object",
            "properties": {"amount": {"type": "number"}, "months": {"type": "integer"}, "rate": {"type": "number"}},
            "required": ["amount"],
        },
    },
]


def tools(_subject: str, _request: dict) -> object:
    return {"tools": TOOLS}


def loan_calculator(subject: str, arguments: dict) -> object:
    # The user is in the subject, which only Tidegate writes. Ignore what a client claims in its message.
    user = subject.split(".")[2]
    months, monthly = arguments.get("months", 12), arguments.get("rate", 10) / 1200
    payment = arguments["amount"] * monthly / (1 - (1 + monthly) ** -months)
    text = f"{user} pays {payment:.2f} a month for {months} months"
    return {"content": [{"type": "text", "text": text}], "isError": False}


def predict(subject: str, _request: dict) -> object:
    # A symbol may have dots, as BRK.B.
    symbol = subject.removeprefix("predict.")
    return {"symbol": symbol, "predicted_price": about(150), "confidence": 0.85, "timestamp": now()}


EVENTS = {"financegpt": financegpt, "hoardrun": hoardrun, "stock-agent": stock_agent, "sentio": sentio, "ara": ara}
# Pages of Stock Agent without a token are the user "anonymous".
USERS = {"financegpt": "USR001", "hoardrun": "u1", "stock-agent": "anonymous", "sentio": "user_001", "ara": "anonymous"}
SERVICES: dict[str, dict[str, Answer]] = {
    "financegpt": {
        "finance.*.balance": balance,
        "finance.*.transactions": transactions,
        "finance.*.acknowledge": acknowledge,
        "mcp.tools": tools,
        "tools.loan_calculator.*": loan_calculator,
    },
    "ara": {"predict.>": predict},
}


async def serve(nc: Client, subject: str, answer: Answer) -> None:
    async def handle(message: Msg) -> None:
        try:
            reply, headers = answer(message.subject, json.loads(message.data) or {}), None
        except Exception as error:  # noqa: BLE001 - no message may stop the service
            # Tells Tidegate that this is an error; NATS' own service libraries do the same.
            reply, headers = (
                None,
                {"Nats-Service-Error": f"{type(error).__name__}: {error}", "Nats-Service-Error-Code": "500"},
            )
        await nc.publish(message.reply, json.dumps(reply).encode(), headers=headers)

    # With a queue group, several instances of this program share the requests.
    await nc.subscribe(subject, queue="feed", cb=handle)
    print(f"answering {subject}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", choices=EVENTS)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", metavar="URL")
    parser.add_argument("--user", help="the user of the events; default: the user in the system's document")
    parser.add_argument("--once", action="store_true", help="publish one of each event, and exit")
    parser.add_argument("--every", type=int, default=1000, metavar="MS", help="time between two rounds of events (1000)")
    parser.add_argument("--serve", action="store_true", help="also answer requests, until Ctrl-C")
    options = parser.parse_args()

    nc = await nats.connect(options.nats, name=f"{options.seed} feed")
    try:
        if options.serve:
            for subject, answer in SERVICES.get(options.seed, {}).items():
                await serve(nc, subject, answer)
        for n in count(1):
            for subject, payload in EVENTS[options.seed](options.user or USERS[options.seed], n):
                await nc.publish(subject, json.dumps(payload, ensure_ascii=False).encode())
            # Shielded from Ctrl-C: the library fails on a reply to a flush that was cancelled.
            await asyncio.shield(nc.flush())
            if options.once:
                break
            await asyncio.sleep(options.every / 1000)
        if options.serve:
            await asyncio.Event().wait()
    finally:
        await nc.drain()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
