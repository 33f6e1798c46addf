"""Shared by all frontends in Python: a socket that compares messages, NATS publications and services, tokens, and rows.

Everything that a frontend receives was published on plain NATS by its own test, or is a reply of a service of the test.
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

# How long to wait for an expected message.
LIMIT_S = 10
# How much longer to wait for an unwanted message after a later message has arrived.
QUIET_S = 0.15
# The interval between two attempts.
AGAIN_S = 0.05
# The maximum number of nodes behind a load balancer, which uses them in turn.
NODES = 3

PROBE = re.compile(r'"(probe-\d+)"')


class Skipped(Exception):
    """The node is not configured for this row."""


class Wrong(Exception):
    """The row differs from its document."""


@dataclass(frozen=True)
class Text:
    """Any text that matches a regular expression."""

    form: str

    def matches(self, value: object) -> bool:
        return isinstance(value, str) and re.fullmatch(self.form, value) is not None

    def __repr__(self) -> str:
        return f"/{self.form}/"


@dataclass(frozen=True)
class AtLeast:
    """Any integer of at least this size."""

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
    """Whether a value equals the expected one, in all members and their types: True is not 1."""
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
    """One WebSocket of a page. Every message is compared in all members; only probes are skipped."""

    _ids = itertools.count(1)

    def __init__(self, connection: ClientConnection, nc: Client) -> None:
        self.connection = connection
        self.nc = nc
        # If set, messages without this text are ignored, because the page also receives messages of other rows.
        self.only = ""
        self._frames: asyncio.Queue[str] = asyncio.Queue()
        self._probes: set[str] = set()
        self._ignored = 0
        self._probed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for frame in self.connection:
                text = frame if isinstance(frame, str) else f"a binary message of {len(frame)} bytes"
                if probe := PROBE.search(text):
                    self._probes.add(probe[1])
                    self._probed.set()
                    self._ignored += 1
                elif self.only in text:
                    self._frames.put_nowait(text)
        except ConnectionClosed:
            pass

    def compressed(self) -> list[bool]:
        """A list that records for each later frame whether it is compressed. Raises Wrong without negotiation."""
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
        """The next message, unchanged."""
        try:
            return await asyncio.wait_for(self._frames.get(), within_s)
        except TimeoutError:
            closed, ignored = self.connection.close_code, self._ignored
            what = f", except {ignored} with probes" if ignored else ""
            raise Wrong(
                f"no message arrived{what}{f'; the socket was closed with {closed}' if closed else ''}"
            ) from None

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
        """Publishes probes until one arrives, so that the subscription is live. `expect` ignores probes.

        Not for `signals`: a node of Sentio keeps the probe, so its pages would get it in each list, which they ignore.
        """
        if subject.split(".")[0] == "signals" and "symbol" not in members:
            raise ValueError(f"a probe on {subject} would hide the lists of Sentio's pages")
        mine: set[str] = set()
        deadline = time.monotonic() + LIMIT_S
        while not mine & self._probes:
            if time.monotonic() > deadline:
                closed = self.connection.close_code
                raise Wrong(
                    f"no message published on {subject} arrives" + (f"; closed with {closed}" if closed else "")
                )
            probe = f"probe-{next(Socket._ids)}"
            mine.add(probe)
            self._probed.clear()
            await self.nc.publish(subject, json.dumps({"symbol": probe, **members, "probe": probe}).encode())
            try:
                await asyncio.wait_for(self._probed.wait(), AGAIN_S)
            except TimeoutError:
                pass

    async def until(self, publish: Callable[[], Awaitable[None]], wanted: object) -> None:
        """Repeats the publications until this message arrives, and then waits until no more messages come. `wanted` may
        also be a function that checks the text of a message. Other messages are ignored."""

        def is_wanted(text: str) -> bool:
            return wanted(text) if callable(wanted) else same(wanted, json.loads(text))

        deadline, last = time.monotonic() + LIMIT_S, ""
        while True:
            await publish()
            try:
                while not is_wanted(last := await self.raw(AGAIN_S)):
                    pass
                break
            except Wrong as wrong:
                if time.monotonic() > deadline:
                    what = "the message that is checked" if callable(wanted) else short(wanted)
                    seen = f"the last message: {short(last)}" if last else str(wrong)
                    raise Wrong(f"expected {what}; {seen}") from None
        try:
            while True:
                await self.raw(QUIET_S)
        except Wrong:
            pass

    def forget(self) -> None:
        """Drops the messages that have arrived."""
        while not self._frames.empty():
            self._frames.get_nowait()

    async def quiet(self) -> None:
        """Checks that no message is left, and that none arrives."""
        await asyncio.sleep(QUIET_S)
        if not self._frames.empty():
            raise Wrong(f"got an unexpected message: {short(self._frames.get_nowait())}")

    async def closed(self) -> int:
        try:
            await asyncio.wait_for(self.connection.wait_closed(), LIMIT_S)
        except TimeoutError:
            raise Wrong("the socket was not closed") from None
        return self.connection.close_code


@dataclass
class Stage:
    """The environment of one row: the address of the node, NATS, and unique names."""

    url: str
    nc: Client
    secret: str
    console: bool = False
    # The API key that the node accepts, if any.
    api_key: str = ""
    tag: str = field(default_factory=lambda: secrets.token_hex(3))

    def name(self, text: str) -> str:
        """A name that is unique to this row."""
        return f"{text}-{self.tag}"

    def key(self) -> str:
        if not self.api_key:
            raise Skipped("needs --api-key")
        return self.api_key

    def token(self, sub: str, role: str | None = "user", **claims: object) -> str:
        """A token with these claims. One that is `None` is left out."""

        def part(value: bytes) -> str:
            return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

        body = {"sub": sub, "exp": int(time.time()) + 600, "role": role, **claims}
        body = {name: claim for name, claim in body.items() if claim is not None}
        signed = ".".join(part(json.dumps(it).encode()) for it in ({"alg": "HS256", "typ": "JWT"}, body))
        return f"{signed}.{part(hmac.digest(self.secret.encode(), signed.encode(), hashlib.sha256))}"

    async def publish(self, subject: str, payload: object) -> None:
        """Publishes an object as JSON, or text unchanged. Returns once NATS has the message."""
        data = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        await self.nc.publish(subject, data.encode())
        await settled(self.nc)

    @asynccontextmanager
    async def service(
        self, subject: str, answer: Callable[[str, object], object]
    ) -> AsyncIterator[list[tuple[str, object]]]:
        """Runs a service, and yields the list of its requests. An answer that is an exception is an error."""
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
        """Checks that the handshake is rejected with this status."""
        try:
            async with self.socket(path, **options):
                raise Wrong(f"{path.split('?')[0]}: expected {status}, got a socket")
        except InvalidStatus as refusal:
            if refusal.response.status_code != status:
                raise Wrong(f"{path.split('?')[0]}: expected {status}, got {refusal.response.status_code}") from None

    async def http(self, method: str, path: str, token: str | None = None, body: object = None) -> tuple[int, object]:
        """The status, and the body: JSON, text or None."""

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
        """Checks the status and body of an HTTP call. `...` stands for any body."""
        got = await self.http(method, path, **options)
        if got[0] != status or not (wanted is ... or same(wanted, got[1])):
            raise Wrong(
                f"{method} {path}: expected {status} {'' if wanted is ... else short(wanted)}, got {got[0]} {short(got[1])}"
            )


async def eventually(check: Callable[[], Awaitable[None]]) -> None:
    """Repeats the check until it succeeds `NODES` times in a row, and so on every node behind a load balancer."""
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
    """Waits until NATS has everything. The first PING of nats-py may overtake unwritten data, the second may not."""
    await nc.flush()
    await nc.flush()


async def nats_client(url: str) -> Client:
    return await nats.connect(url, name="frontend test", connect_timeout=5, allow_reconnect=False)
