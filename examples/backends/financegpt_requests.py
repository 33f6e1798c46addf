"""FinanceGPT Pro's WebSocket endpoint as a service: it answers what pages request, such as `get_balance`."""

import asyncio
import json

from tidegate_backend import connection, publish, user_of


class Request:
    """One request of a page, as a socket. What the endpoint sends is the reply."""

    def __init__(self, message):
        self.unread, self.reply = [json.loads(message.data)], message.reply

    async def accept(self):
        """Tidegate has accepted the connection."""

    async def receive_json(self):
        if not self.unread:
            raise asyncio.CancelledError
        return self.unread.pop()

    async def send_json(self, message):
        """Tidegate puts the reply into the message of the page: `{"balance": 1}` is the reply 1."""
        (reply,) = message.values()
        await publish(self.reply, reply)


async def serve(endpoint):
    running = set()

    async def answer(message):
        task = asyncio.create_task(endpoint(Request(message), user_of(message.subject.split(".")[1])))
        running.add(task)
        task.add_done_callback(running.discard)

    await (await connection()).subscribe("finance.*.*", "backend", cb=answer)
