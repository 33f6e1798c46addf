"""What all frontends in Python stand on: a socket that expects, publications on NATS, tokens, and rows of a table.

Everything that a frontend hears was published by its own test on plain NATS, or answered by a service of it there.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

# What comes at all comes in this time.
LIMIT_S = 10
# A publication that should come to nobody has come by then, when one after it has.
QUIET_S = 0.15
# From one try to the next, while a subscription is not live yet.
AGAIN_S = 0.05
# So many nodes stand behind a balancer at most: it takes them in turn.
NODES = 3

PROBE = re.compile(r'"(probe-\d+)"')


class Skipped(Exception):
    """A row that the node is not configured for."""


class Wrong(Exception):
    """A row that is not as its document has it."""


@dataclass(frozen=True)
class Text:
    """Any text of a form."""

    form: str

    def matches(self, value: object) -> bool:
        return isinstance(value, str) and re.fullmatch(self.form, value) is not None

    def __repr__(self) -> str:
        return f"/{self.form}/"


@dataclass(frozen=True)
class AtLeast:
    """A whole number that is not smaller."""

    least: int

    def matches(self, value: object) -> bool:
        return type(value) is int and value >= self.least

    def __repr__(self) -> str:
        return f"≥{self.least}"


ANY_TEXT = Text(".+")
# 2026-01-06T12:00:00Z, with milliseconds, and without a zone.
SECONDS = Text(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MILLISECONDS = Text(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NAIVE = Text(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def same(wanted: object, value: object) -> bool:
    """Equal to the last member and its type; True is not 1."""
    if isinstance(wanted, Text | AtLeast):
        return wanted.matches(value)
    if isinstance(wanted, dict):
        return (
            isinstance(value, dict) and wanted.keys() == value.keys() and all(same(wanted[k], value[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and len(wanted) == len(value) and all(map(same, wanted, value))
    return type(wanted) is type(value) and wanted == value


def short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 300 else text[:300] + "…"


class Socket:
    """One WebSocket of a page. What comes is compared to the last member; nothing is skipped but probes."""

    _ids = itertools.count(1)

    def __init__(self, connection: ClientConnection, nc: Client) -> None:
        self.connection = connection
        self.nc = nc
        # Only what contains this text counts: where a page asks for everybody's messages.
        self.only = ""
        self._frames: asyncio.Queue[str] = asyncio.Queue()
        self._probes: set[str] = set()
        self._probed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for frame in self.connection:
                text = frame if isinstance(frame, str) else f"a binary message of {len(frame)} bytes"
                if probe := PROBE.search(text):
                    self._probes.add(probe[1])
                    self._probed.set()
                elif self.only in text:
                    self._frames.put_nowait(text)
        except ConnectionClosed:
            pass

    def compressed(self) -> list[bool]:
        """Of each frame from now on, whether it comes compressed. Wrong where that was not negotiated."""
        extensions = {it.name: it for it in self.connection.protocol.extensions}
        deflate = extensions.get("permessage-deflate")
        if deflate is None:
            raise Wrong(f"permessage-deflate was not negotiated, but {short(list(extensions))}")
        frames: list[bool] = []
        decode = deflate.decode

        def counted(frame, **options: object):
            frames.append(frame.rsv1)
            return decode(frame, **options)

        deflate.decode = counted
        return frames

    async def send(self, message: object) -> None:
        await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def raw(self, within_s: float = LIMIT_S) -> str:
        """The next message, as it came."""
        try:
            return await asyncio.wait_for(self._frames.get(), within_s)
        except TimeoutError:
            closed = self.connection.close_code
            raise Wrong(f"nothing came{f', the socket was closed with {closed}' if closed else ''}") from None

    async def expect(self, wanted: object, within_s: float = LIMIT_S) -> None:
        try:
            text = await self.raw(within_s)
        except Wrong as wrong:
            raise Wrong(f"expected {short(wanted)}, but {wrong}") from None
        if not same(wanted, json.loads(text)):
            raise Wrong(f"expected {short(wanted)}, got {short(text)}")

    async def ask(self, message: object, wanted: object) -> None:
        await self.send(message)
        try:
            await self.expect(wanted)
        except Wrong as wrong:
            raise Wrong(f"sent {short(message)}, {wrong}") from None

    async def live(self, subject: str, **members: object) -> None:
        """Publishes until something of it comes: the subscription is there. Nothing of this is ever expected."""
        mine: set[str] = set()
        deadline = time.monotonic() + LIMIT_S
        while not mine & self._probes:
            if time.monotonic() > deadline:
                closed = self.connection.close_code
                raise Wrong(
                    f"nothing that is published on {subject} comes" + (f"; closed with {closed}" if closed else "")
                )
            probe = f"probe-{next(Socket._ids)}"
            mine.add(probe)
            self._probed.clear()
            await self.nc.publish(subject, json.dumps({"symbol": probe, **members}).encode())
            try:
                await asyncio.wait_for(self._probed.wait(), AGAIN_S)
            except TimeoutError:
                pass

    async def quiet(self) -> None:
        """Nothing is left, and nothing comes."""
        await asyncio.sleep(QUIET_S)
        if not self._frames.empty():
            raise Wrong(f"came, and should not: {short(self._frames.get_nowait())}")

    async def closed(self) -> int:
        try:
            await asyncio.wait_for(self.connection.wait_closed(), LIMIT_S)
        except TimeoutError:
            raise Wrong("the socket was not closed") from None
        return self.connection.close_code


@dataclass
class Stage:
    """Where a frontend is tried out: its address, NATS, and names that nobody else uses."""

    url: str
    nc: Client
    secret: str
    console: bool = False
    # What the node knows as an API key of its own, if it knows one.
    api_key: str = ""
    tag: str = field(default_factory=lambda: secrets.token_hex(3))

    def name(self, text: str) -> str:
        """The same in this row, another one in the next."""
        return f"{text}-{self.tag}"

    def key(self) -> str:
        if not self.api_key:
            raise Skipped("there is no --api-key")
        return self.api_key

    def token(self, sub: str, role: str = "user", **claims: object) -> str:
        def part(value: bytes) -> str:
            return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

        body = {"sub": sub, "role": role, "exp": int(time.time()) + 600, **claims}
        signed = ".".join(part(json.dumps(it).encode()) for it in ({"alg": "HS256", "typ": "JWT"}, body))
        return f"{signed}.{part(hmac.digest(self.secret.encode(), signed.encode(), hashlib.sha256))}"

    async def publish(self, subject: str, payload: object) -> None:
        """An object as JSON, text as it is; done when the server has it."""
        data = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        await self.nc.publish(subject, data.encode())
        await settled(self.nc)

    @asynccontextmanager
    async def service(
        self, subject: str, answer: Callable[[str, object], object]
    ) -> AsyncIterator[list[tuple[str, object]]]:
        """Answers requests, and lists what was asked. An answer that is an exception is the failure of a service."""
        asked: list[tuple[str, object]] = []

        async def handle(message: Msg) -> None:
            request = json.loads(message.data)
            asked.append((message.subject, request))
            reply = answer(message.subject, request)
            failed = {"Nats-Service-Error": str(reply), "Nats-Service-Error-Code": "500"}
            is_failure = isinstance(reply, Exception)
            data = b"" if is_failure else json.dumps(reply).encode()
            await self.nc.publish(message.reply, data, headers=failed if is_failure else None)

        subscription = await self.nc.subscribe(subject, cb=handle)
        await settled(self.nc)
        try:
            yield asked
        finally:
            await subscription.unsubscribe()

    @asynccontextmanager
    async def socket(self, path: str, **options: object) -> AsyncIterator[Socket]:
        async with connect(self.url + path, open_timeout=LIMIT_S, close_timeout=1, **options) as connection:
            yield Socket(connection, self.nc)

    async def refused(self, path: str, status: int, **options: object) -> None:
        """The handshake is answered with this status."""
        try:
            async with self.socket(path, **options):
                raise Wrong(f"{path.split('?')[0]}: expected {status}, got a socket")
        except InvalidStatus as refusal:
            if refusal.response.status_code != status:
                raise Wrong(f"{path.split('?')[0]}: expected {status}, got {refusal.response.status_code}") from None

    async def http(self, method: str, path: str, token: str | None = None, body: object = None) -> tuple[int, object]:
        """The status, and the body: JSON, or text, or nothing."""

        def call() -> tuple[int, bytes]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            data = None if body is None else json.dumps(body).encode()
            if data is not None:
                headers["Content-Type"] = "application/json"
            url = "http" + self.url.removeprefix("ws") + path
            request = urllib.request.Request(url, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        status, data = await asyncio.to_thread(call)
        try:
            return status, json.loads(data) if data else None
        except ValueError:
            return status, data.decode(errors="replace")

    async def answers(self, status: int, wanted: object, method: str, path: str, **options: object) -> None:
        """An HTTP call is answered so; `...` for any body."""
        got = await self.http(method, path, **options)
        if got[0] != status or not (wanted is ... or same(wanted, got[1])):
            raise Wrong(
                f"{method} {path}: expected {status} {'' if wanted is ... else short(wanted)}, got {got[0]} {short(got[1])}"
            )


async def eventually(check: Callable[[], Awaitable[None]]) -> None:
    """Checks until it holds so often in a row that every node behind a balancer has been asked."""
    deadline = time.monotonic() + LIMIT_S
    in_a_row = 0
    while in_a_row < NODES:
        try:
            await check()
            in_a_row += 1
        except Wrong:
            if time.monotonic() > deadline:
                raise
            in_a_row = 0
            await asyncio.sleep(AGAIN_S)


Row = Callable[[Stage], Awaitable[None]]


class Table:
    """The rows of one system, in order."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.rows: list[tuple[str, Row]] = []

    def row(self, name: str) -> Callable[[Row], Row]:
        def add(row: Row) -> Row:
            self.rows.append((name, row))
            return row

        return add


async def settled(nc: Client) -> None:
    """The server has seen everything: nats-py's PING may overtake what it has not written yet, the second one does not."""
    await nc.flush()
    await nc.flush()


async def nats_client(url: str) -> Client:
    return await nats.connect(url, name="frontend test", connect_timeout=5, allow_reconnect=False)
