#!/usr/bin/env python3
"""Measures what TLS costs a node: bytes of memory per idle WebSocket, and CPU time per delivery in fan-out. With a
nats-server for NATS, and the websocket listener of another nats-server as the peer.

    tests/tls/measure.py target/release/tidegate --nats-server PATH

It prints one line for each server, without TLS and with it. CPU time is that of the server's process, from /proc.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time

SECRET = "the secret of one measurement, for nothing else"
TICK = os.sysconf("SC_CLK_TCK")


def token():
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(b'{"alg":"HS256","kid":"main"}')
    body = part(json.dumps({"sub": "ann", "role": "user", "exp": int(time.time()) + 3600}).encode())
    signature = hmac.new(SECRET.encode(), head + b"." + body, hashlib.sha256).digest()
    return (head + b"." + body + b"." + part(signature)).decode()


def certificate(folder):
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", "-x509", *ec, "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "30",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    (folder / "key.pem").chmod(0o600)
    return folder / "cert.pem", folder / "key.pem"


def frame(payload):
    """A masked text frame; the mask is zero."""
    length = len(payload)
    header = bytes([0x81, 0x80 | length]) if length < 126 else bytes([0x81, 0xFE]) + length.to_bytes(2, "big")
    return header + bytes(4) + payload


class Server:
    """A process, its port, and how a client subscribes."""

    def __init__(self, command, port, path, headers, subscribe, name):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.port, self.path, self.headers, self.subscribe, self.name = port, path, headers, subscribe, name

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024

    async def connect(self, context):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context,
                                                       server_hostname="localhost" if context else None)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write((f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                      f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{self.headers}\r\n").encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        return reader, writer


async def connect_all(server, context, count):
    sockets = []
    for start in range(0, count, 50):
        sockets += await asyncio.gather(*(server.connect(context) for _ in range(start, min(start + 50, count))))
    return sockets


async def idle(server, context, count):
    """Bytes of resident memory for each of `count` idle sockets."""
    warm = await connect_all(server, context, 200)
    await asyncio.sleep(1)
    before = server.memory()
    sockets = await connect_all(server, context, count)
    await asyncio.sleep(2)
    after = server.memory()
    for _, writer in warm + sockets:
        writer.transport.abort()
    await asyncio.sleep(1)
    return (after - before) / count


async def fan_out(server, context, publish, clients, messages, payload):
    """Microseconds of CPU time of the server for each delivery."""
    sockets = await connect_all(server, context, clients)
    expected, counts, done = messages, [0] * clients, asyncio.Event()

    async def read(index, reader):
        rest = b""
        while counts[index] < expected:
            chunk = await reader.read(65536)
            if not chunk:
                return
            rest += chunk
            counts[index] += rest.count(payload)
            at = rest.rfind(payload)
            rest = rest[at + len(payload):] if at >= 0 else rest[-len(payload):]
            if all(count >= expected for count in counts):
                done.set()

    tasks = [asyncio.create_task(read(index, reader)) for index, (reader, _) in enumerate(sockets)]
    for _, writer in sockets:
        writer.write(frame(server.subscribe))
    await asyncio.sleep(1)
    before = server.cpu()
    for _ in range(messages):
        publish(payload)
        await asyncio.sleep(0.01)
    await asyncio.wait_for(done.wait(), 120)
    used = server.cpu() - before
    for task in tasks:
        task.cancel()
    for _, writer in sockets:
        writer.transport.abort()
    await asyncio.sleep(1)
    return used * 1e6 / (clients * messages)


async def publisher(port):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')

    def publish(payload):
        writer.write(b"PUB prices.A %d\r\n%s\r\n" % (len(payload), payload))

    return publish


async def wait_for(port):
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tidegate")
    parser.add_argument("--nats-server", required=True)
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--first-port", type=int, default=26400)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cert, key = certificate(folder)
        context = ssl.create_default_context(cafile=cert)
        ports = iter(range(given.first_port, given.first_port + 20))
        nats = next(ports)
        broker = subprocess.Popen([given.nats_server, "-a", "127.0.0.1", "-p", str(nats)], stderr=subprocess.DEVNULL)
        servers = []
        try:
            await wait_for(nats)
            publish_to_tidegate = await publisher(nats)
            for tls in (False, True):
                port, peer_port, peer_nats = next(ports), next(ports), next(ports)
                config = folder / f"tidegate-{tls}.toml"
                files = f'[tls]\ncert_file = "{cert}"\nkey_file = "{key}"\n' if tls else ""
                config.write_text(
                    f'[http]\nlisten = "127.0.0.1:{port}"\n[nats]\nurl = "nats://127.0.0.1:{nats}"\n{files}'
                    f'[server]\nlame_duck_s = 0\ndrain_s = 0\n[[auth.key]]\nsecret = "{SECRET}"\n')
                subscribe = b'{"type":"subscribe","id":1,"channel":"prices.A"}'
                tidegate = Server([given.tidegate, "serve", "--config", config], port, "/ws",
                                  f"Authorization: Bearer {token()}\r\n", subscribe, "tidegate")
                servers.append(tidegate)
                peer_config = folder / f"nats-{tls}.conf"
                of_tls = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}' if tls else "no_tls: true"
                peer_config.write_text(f'listen: "127.0.0.1:{peer_nats}"\n'
                                       f'websocket {{ listen: "127.0.0.1:{peer_port}", {of_tls} }}\n')
                peer = Server([given.nats_server, "-c", peer_config], peer_port, "/", "",
                              b'CONNECT {"verbose":false}\r\nSUB prices.A 1\r\n', "nats-server")
                servers.append(peer)
                await wait_for(port)
                await wait_for(peer_nats)
                publish_to_peer = await publisher(peer_nats)
                payload = b'{"symbol":"A","price":190.25,"size":100,"time":1764500000000,"venue":"XNAS","side":"b"}'
                for server, publish in ((tidegate, publish_to_tidegate), (peer, publish_to_peer)):
                    used = context if tls else None
                    of_delivery = await fan_out(server, used, publish, given.clients, given.messages, payload)
                    of_socket = await idle(server, used, given.idle)
                    name = f"{server.name} {'with TLS' if tls else 'plain'}"
                    print(f"{name:24} {of_socket / 1024:7.1f} KiB per idle socket  {of_delivery:6.2f} µs per delivery",
                          flush=True)
        finally:
            for server in servers:
                server.process.terminate()
            broker.terminate()


asyncio.run(main())
