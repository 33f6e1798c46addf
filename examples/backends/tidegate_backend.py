"""What the modules in this folder share: publish JSON on NATS, and read the statistics of Tidegate.

NATS_URL is the address of NATS, TIDEGATE_URL that of any node, and TIDEGATE_TOKEN a token or API key for /ws/stats.
"""

import asyncio
import json
import os
import re
import urllib.request

import nats

_connected, _connecting = None, asyncio.Lock()


async def connection():
    """The connection to NATS of this program. The first call opens it; then it reconnects without end."""
    global _connected
    async with _connecting:
        if _connected is None or _connected.is_closed:
            url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
            _connected = await nats.connect(url, name="backend", max_reconnect_attempts=-1)
    return _connected


async def publish(subject, payload):
    await (await connection()).publish(subject, json.dumps(payload, default=str, ensure_ascii=False).encode())


def token(user_id):
    """The user in a subject, as `tidegate subject` prints it: ann@example.com is ann@example=2Ecom."""
    return re.sub(rb"[^A-Za-z0-9_@:-]", lambda it: b"=%02X" % ord(it[0]), str(user_id).encode()).decode()


def stats():
    """What `GET /ws/stats` of any node says about all nodes."""
    headers = {"Authorization": f"Bearer {os.environ['TIDEGATE_TOKEN']}"} if "TIDEGATE_TOKEN" in os.environ else {}
    url = os.environ.get("TIDEGATE_URL", "http://127.0.0.1:8000") + "/ws/stats"
    return json.load(urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5))
