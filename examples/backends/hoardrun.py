"""app/core/websocket.py of hoardrun: the same functions, which publish on NATS. Tidegate has the sockets."""

from tidegate_backend import publish, stats, token, word


async def broadcast_notification(notification_data, user_id=None):
    subject = f"user.{token(user_id)}.notifications" if user_id else "system.notifications"
    await publish(subject, notification_data)


async def broadcast_transaction_update(transaction_data, user_id):
    await publish(f"user.{token(user_id)}.transactions", transaction_data)


async def broadcast_balance_update(balance_data, user_id):
    await publish(f"user.{token(user_id)}.balance", balance_data)


async def broadcast_market_update(market_data, room="market_data"):
    # `room.BRK.B` is a message of the type `B` in the room BRK.
    await publish(f"room.{word('a room', room)}", market_data)


async def broadcast_system_announcement(announcement):
    await publish("system.announcements", announcement)


class ConnectionManager:
    def get_connection_count(self):
        return stats()["data"]["total_connections"]

    def get_user_count(self):
        return stats()["data"]["unique_users"]

    def get_room_info(self):
        return stats()["data"]["rooms"]


manager = ConnectionManager()
