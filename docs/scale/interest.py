#!/usr/bin/env python3
"""Measures what a subscription costs each nats-server of a topology, and which messages cross between them.

For each topology it starts servers on free loopback ports, subscribes to many literal subjects on the first one, and
then publishes on the last one: first messages that have a subscriber, and then messages that have none.

    docs/scale/interest.py                      # uses TIDEGATE_NATS_SERVER, or nats-server on the PATH
    docs/scale/interest.py --subjects 20000
"""

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import time

MESSAGES = 20_000


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


class Server:
    def __init__(self, program, folder, name, port, config):
        path = os.path.join(folder, f"{name}.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"server_name: {name}\nlisten: 127.0.0.1:{port}\nmax_payload: 1MB\n{config}\n")
        self.name, self.port = name, port
        self.process = subprocess.Popen([program, "-c", path], stderr=subprocess.DEVNULL)

    def memory(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """A NATS connection that can subscribe, publish, and wait until the server has processed everything."""

    def __init__(self, port):
        self.socket = connect(port)
        self.buffer = b""
        self.received = 0
        self.socket.sendall(b'CONNECT {"verbose":false}\r\n')
        self.flush()

    def flush(self):
        self.socket.sendall(b"PING\r\n")
        while True:
            self.read()
            if b"PONG\r\n" in self.buffer:
                self.received += self.buffer.count(b"MSG ")
                self.buffer = b""
                return

    def read(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("nats-server closed the connection")
        self.buffer += data

    def send(self, lines):
        for start in range(0, len(lines), 5000):
            self.socket.sendall(b"".join(lines[start:start + 5000]))
            self.flush()


def connect(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=60)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def topologies(ports):
    """Name, and the configurations of its servers; the first has the subscribers, the last the publisher."""
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[:3])
    cluster = ["cluster { name: c, listen: 127.0.0.1:%d, routes: [%s] }" % (port, routes) for port in ports[:3]]
    remote = "leafnodes { remotes: [ { url: nats-leaf://127.0.0.1:%d } ] }" % ports[0]
    no_exports = "leafnodes { remotes: [ { url: nats-leaf://127.0.0.1:%d, deny_exports: [\"t.>\"] } ] }" % ports[0]
    no_imports = "leafnodes { remotes: [ { url: nats-leaf://127.0.0.1:%d, deny_imports: [\"t.>\"] } ] }" % ports[0]
    hub = "leafnodes { listen: 127.0.0.1:%d }" % ports[0]
    quiet_hub = "leafnodes { listen: 127.0.0.1:%d, isolate_leafnode_interest: true }" % ports[0]
    gates = ", ".join("{ name: %s, url: nats://127.0.0.1:%d }" % pair for pair in zip("ab", ports[:2]))
    gateway = ["gateway { name: %s, listen: 127.0.0.1:%d, gateways: [%s] }" % (name, port, gates)
               for name, port in zip("ab", ports[:2])]
    return [
        ("one", [""]),
        ("cluster of three", cluster),
        ("leaf nodes", [remote, hub, remote]),
        ("leaf nodes, isolated", [remote, quiet_hub, remote]),
        ("deny_exports at the first leaf", [no_exports, hub, remote]),
        ("deny_imports at the first leaf", [no_imports, hub, remote]),
        ("gateways", gateway),
    ]


def measure(program, folder, name, configs, ports, count):
    servers = [Server(program, folder, f"{name.split()[0]}-{at}", port, config)
               for at, (port, config) in enumerate(zip(ports, configs))]
    try:
        for server in servers:
            Client(server.port)
        time.sleep(3)
        before = [server.memory() for server in servers]
        subscriber, publisher = Client(servers[0].port), Client(servers[-1].port)
        subscriber.send([b"SUB t.%d %d\r\n" % (at, at + 1) for at in range(count)])
        time.sleep(3)
        grown = [(server.memory() - old) / count for server, old in zip(servers, before)]
        rows = []
        for kind, first in (("wanted", b"t."), ("unwanted", b"u.")):
            cpu = [server.cpu() for server in servers]
            publisher.send([b"PUB %s%d 100\r\n%s\r\n" % (first, at % count, b"x" * 100) for at in range(MESSAGES)])
            time.sleep(1)
            subscriber.flush()
            rows.append([(server.cpu() - old) / MESSAGES * 1e6 for server, old in zip(servers, cpu)])
        return grown, rows, subscriber.received
    finally:
        for server in servers:
            server.process.terminate()
            server.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--subjects", type=int, default=100_000, help="literal subscriptions on the first server")
    arguments = parser.parse_args()
    program = os.environ.get("TIDEGATE_NATS_SERVER") or shutil.which("nats-server")
    if not program:
        parser.error("there is no nats-server: set TIDEGATE_NATS_SERVER, or run nats/get-nats-server.sh")
    print("| topology | bytes per subscription | CPU µs per wanted message | CPU µs per unwanted message | received |")
    print("|---|---|---|---|---|")
    ports = free_ports(6)
    for name, configs in topologies(ports[3:]):
        with tempfile.TemporaryDirectory() as folder:
            grown, (wanted, unwanted), received = measure(program, folder, name, configs, ports, arguments.subjects)
        cells = [" · ".join(f"{value:.{digits}f}" for value in values)
                 for values, digits in ((grown, 0), (wanted, 1), (unwanted, 1))]
        print(f"| {name} | {' | '.join(cells)} | {received} |", flush=True)


if __name__ == "__main__":
    main()
