"""ara/api/websocket/handlers.py and connection_manager.py of ARA: the same functions, which publish on NATS."""

from tidegate_backend import dotted, publish, stats, token


async def broadcast_prediction_update(symbol, prediction_data):
    await publish(f"predictions.{dotted(symbol.upper())}", prediction_data)


async def broadcast_market_data(symbol, market_data):
    await publish(f"prices.{dotted(symbol.upper())}", market_data)


async def send_alert(alert_data, user_id=None):
    """To every page with /ws/alerts, or only to those of a user."""
    await publish(f"user.{token(user_id)}.notifications" if user_id else "alerts", alert_data)


class ConnectionManager:
    def get_connection_count(self, channel=None):
        counts = stats()
        return counts["channels"].get(channel, 0) if channel else counts["total_connections"]

    def get_channels(self):
        """The channels that have connections."""
        return {channel for channel, count in stats()["channels"].items() if count}


connection_manager = ConnectionManager()
