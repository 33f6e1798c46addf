"""FinanceGPT Pro's `active_websockets`: its sockets publish on NATS. Tidegate has the real ones."""

from tidegate_backend import is_word, publish, token


class Socket:
    def __init__(self, prefix):
        self.prefix = prefix

    async def send_json(self, message):
        """The last token of the subject is the event. A type that is no token, such as `fraud.alert`, is none: pages get
        such a message as it is."""
        event = message.get("type")
        await publish(f"{self.prefix}.{event if is_word(event) else 'notifications'}", message)


class ActiveWebsockets:
    def __getitem__(self, user_id):
        return Socket(f"user.{token(user_id)}")

    def get(self, user_id):
        return self[user_id]

    def values(self):
        """One socket that reaches every page."""
        return [Socket("system")]


active_websockets = ActiveWebsockets()
