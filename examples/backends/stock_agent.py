"""api/websocket.py of Stock Agent: the same functions, which publish on NATS. Tidegate has the sockets."""

import asyncio
import random

from tidegate_backend import dotted, publish, stats


class ConnectionManager:
    async def broadcast_price_update(self, symbol, price_data):
        await publish(f"prices.{dotted(symbol)}", price_data)

    async def broadcast_alert(self, alert_data):
        await publish("alerts", alert_data)

    async def broadcast_signal(self, signal_data):
        await publish("signals", signal_data)

    async def broadcast_notification(self, notification):
        await publish("system.notifications", notification)

    def get_stats(self):
        return stats()


manager = ConnectionManager()


async def price_streaming_task(update_interval=1, symbols=("AAPL", "MSFT", "GOOGL", "AMZN", "TSLA")):
    """Prices of each symbol every second, until it is cancelled. Connect a real feed here."""
    while True:
        for symbol in symbols:
            price = round(random.uniform(180, 190), 2)
            data = {"price": price, "change": round(price - 185, 2), "change_pct": round(price / 1.85 - 100, 2)}
            data |= {"volume": random.randint(1, 5) * 1000000, "bid": price - 0.05, "ask": price + 0.05}
            await manager.broadcast_price_update(symbol, data)
        await asyncio.sleep(update_interval)
