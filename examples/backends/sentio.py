"""sentio/data/dashboard_websocket_service.py of Sentio: the same methods, which publish on NATS."""

from tidegate_backend import dotted, publish, token, word


class DashboardWebSocketManager:
    async def broadcast_trade_signals(self, signals):
        """Each page gets the signals of its symbols, and Tidegate keeps the last of each symbol for new pages."""
        for signal in signals:
            await publish(f"signals.{dotted(signal['symbol'].upper())}", signal)

    async def broadcast_earnings(self, user_id, earnings_data):
        await publish(f"user.{token(user_id)}.earnings", earnings_data)

    async def broadcast_notification(self, user_id, notification):
        await publish(f"user.{token(user_id)}.notifications", notification)

    async def broadcast_admin_update(self, update_type, data):
        await publish(f"admin.{word('an update', update_type)}", data)


dashboard_ws_manager = DashboardWebSocketManager()
