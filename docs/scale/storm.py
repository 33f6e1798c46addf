#!/usr/bin/env python3
"""Simulates how the clients of a lost region reconnect to the nodes of another one.

    docs/scale/storm.py                              compares four kinds of clients
    docs/scale/storm.py --svg docs/scale/storm.svg   draws them too
    docs/scale/storm.py --settings                   compares limits and the cost of TLS
    docs/scale/storm.py --bench                      the load of `tidegate bench storm`, to compare with its results

A discrete-event simulation: one node with its share of the clients. A socket waits in the listener's queue for the
acceptor, then TLS (if the node does it) and the rest of the handshake take CPU from the node's cores, in turn. Between
them, `limits.handshakes_per_s` admits, delays or rejects the handshake, as src/node/admission.rs does. The same seed
gives the same output.
"""

import argparse
import dataclasses
import heapq
import random

# Microseconds of CPU. The first three are measured (docs/BENCHMARKS.md, `connect`, `storm` and `idle`).
CONNECT, TOKEN, SUBSCRIBE = 51.0, 8.0, 21.0
# The acceptor's part of a handshake, a fifth of it; and a rejected handshake, as costly as one of the baseline.
ACCEPT, REJECT = 12.0, 25.0
# The longest Retry-After, in seconds.
MAX_RETRY_AFTER = 60.0
# How long a client waits for the answer to its handshake, in seconds.
CLIENT_TIMEOUT = 10.0
# TCP repeats an unanswered SYN after one second, and then after twice the time.
FIRST_SYN_RETRY = 1.0
# A simulation ends here, in seconds.
END = 600.0


@dataclasses.dataclass
class Storm:
    clients: int = 50_000
    cores: int = 4
    busy: float = 0.5
    notice: float = 0.2
    rate: int = 5000
    burst: int = 1000
    wait: float = 1.0
    backlog: int = 4096
    tls: float = 0.0
    token: float = TOKEN
    subscribe: float = SUBSCRIBE
    seed: int = 1


class Admission:
    """`Admission` of src/node/admission.rs, in seconds."""

    def __init__(self, storm):
        self.rate, self.burst, self.wait = storm.rate, storm.burst, storm.wait
        self.full_at = self.retry_at = 0.0

    def acquire(self, now):
        """How long the handshake waits, or `None` and after how long its client may retry."""
        if self.rate == 0:
            return 0.0, None
        full_at = max(self.full_at, now) + 1 / self.rate
        if full_at - now > self.burst / self.rate + self.wait:
            self.retry_at = min(max(self.retry_at, now) + 1 / self.rate, now + MAX_RETRY_AFTER)
            # The header has whole seconds.
            return None, float(max(1, -int(-(self.retry_at - now) // 1)))
        self.full_at = full_at
        return max(0.0, full_at - now - self.burst / self.rate), None


class Backoff:
    """When a client tries for the first time, and when again."""

    def __init__(self, name, first=0.0, jitter=False, base=1.0, most=1.0, obeys=False):
        self.name, self.first, self.jitter = name, first, jitter
        self.base, self.most, self.obeys = base, most, obeys

    def delay(self, draw, failures, retry_after):
        if self.obeys and retry_after is not None:
            return retry_after + draw()
        longest = min(self.most, self.base * 2 ** min(failures - 1, 10))
        return draw() * longest if self.jitter else longest


CLIENTS = [
    Backoff("every second"),
    Backoff("doubling, no jitter", most=30.0),
    Backoff("full jitter", first=5.0, jitter=True, most=30.0),
    Backoff("full jitter, Retry-After", first=5.0, jitter=True, most=30.0, obeys=True),
]


class Node:
    """Runs one storm, and counts."""

    def __init__(self, storm, backoff):
        self.storm, self.backoff, self.admission = storm, backoff, Admission(storm)
        self.draw = random.Random(storm.seed).random
        self.speed = storm.cores * (1 - storm.busy)
        self.acceptor_free = self.cores_free = 0.0
        self.events, self.number = [], 0
        self.attempts, self.arrivals, self.back = 0, [], []
        self.rejected = self.dropped = self.timeouts = 0
        self.work = self.wasted = self.longest_queue = 0.0

    def at(self, time, act, *details):
        self.number += 1
        heapq.heappush(self.events, (time, self.number, act, details))

    def run(self):
        for _ in range(self.storm.clients):
            noticed = self.draw() * self.storm.notice
            self.at(noticed + self.draw() * self.backoff.first, self.begin, 0)
        while self.events:
            time, _, act, details = heapq.heappop(self.events)
            if time > END:
                break
            act(time, *details)
        self.back.sort()
        return self

    def compute(self, now, micros):
        """Takes turns on the cores: when this work is done."""
        seconds = micros / 1e6
        self.work += seconds
        self.cores_free = max(self.cores_free, now) + seconds / self.speed
        self.longest_queue = max(self.longest_queue, self.cores_free - now)
        return self.cores_free

    def begin(self, now, failures):
        self.attempts += 1
        self.knock(now, now, failures, FIRST_SYN_RETRY)

    def knock(self, now, begun, failures, next_syn):
        """A SYN arrives."""
        self.arrivals.append(now)
        # The acceptor is one thread, which shares its core.
        turn = ACCEPT / 1e6 / (1 - self.storm.busy)
        if (self.acceptor_free - now) / turn > self.storm.backlog:
            self.dropped += 1
            if now + next_syn - begun < CLIENT_TIMEOUT:
                self.at(now + next_syn, self.knock, begun, failures, next_syn * 2)
            else:
                self.fail(begun + CLIENT_TIMEOUT, failures, None)
            return
        self.acceptor_free = max(self.acceptor_free, now) + turn
        self.work += ACCEPT / 1e6
        self.at(self.acceptor_free, self.accepted, begun, failures)

    def accepted(self, now, begun, failures):
        done = self.compute(now, self.storm.tls) if self.storm.tls else now
        self.at(done, self.admit, begun, failures)

    def admit(self, now, begun, failures):
        wait, retry_after = self.admission.acquire(now)
        if wait is None:
            self.rejected += 1
            self.wasted += (REJECT + ACCEPT + self.storm.tls) / 1e6
            self.fail(self.compute(now, REJECT), failures, retry_after)
        else:
            self.at(now + wait, self.connect, begun, failures)

    def connect(self, now, begun, failures):
        done = self.compute(now, CONNECT - ACCEPT + self.storm.token + self.storm.subscribe)
        if done - begun > CLIENT_TIMEOUT:
            self.timeouts += 1
            self.wasted += (CONNECT + self.storm.token + self.storm.subscribe + self.storm.tls) / 1e6
            self.fail(max(now, begun + CLIENT_TIMEOUT), failures, None)
        else:
            self.back.append(done)

    def fail(self, now, failures, retry_after):
        delay = self.backoff.delay(self.draw, failures + 1, retry_after)
        self.at(now + delay, self.begin, failures + 1)

    def share(self, part):
        """When this part of the clients is back."""
        at = int(part * self.storm.clients) - 1
        return self.back[at] if at < len(self.back) else None

    def busiest(self):
        """The most SYNs in one second."""
        return max(per_second(self.arrivals))


def per_second(times):
    counts = [0] * (int(max(times)) + 1)
    for time in times:
        counts[int(time)] += 1
    return counts


def seconds(value):
    return f"over {END:.0f} s" if value is None else f"{value:.1f} s"


def queue(node):
    return f"{node.longest_queue * 1000:,.0f} ms"


def compare(storm, nodes):
    print(f"{storm.clients:,} clients to one node with {storm.cores} cores, {storm.busy:.0%} busy; "
          f"limits.handshakes_per_s {storm.rate}, seed {storm.seed}")
    print()
    print(f"{'clients':26}{'half back':>11}{'99 % back':>11}{'all back':>11}{'tries':>7}{'busiest s':>11}"
          f"{'lost SYNs':>11}{'503':>9}{'wasted CPU':>12}{'queue':>9}")
    for node in nodes:
        waste = node.wasted / node.work
        print(f"{node.backoff.name:26}{seconds(node.share(0.5)):>11}{seconds(node.share(0.99)):>11}"
              f"{seconds(node.share(1)):>11}{node.attempts / storm.clients:>7.1f}{node.busiest():>11,}"
              f"{node.dropped:>11,}{node.rejected:>9,}{waste:>12.0%}{queue(node):>9}")


def settings(storm):
    print(f"{storm.clients:,} clients with {CLIENTS[2].name} to one node with {storm.cores} cores, "
          f"{storm.busy:.0%} busy; seed {storm.seed}")
    print()
    print(f"{'TLS, µs':>8}{'handshakes_per_s':>18}{'99 % back':>11}{'all back':>11}{'tries':>7}{'503':>9}"
          f"{'wasted CPU':>12}{'queue':>10}")
    for tls in (0.0, 120.0, 320.0):
        for rate in (2500, 5000, 20_000):
            node = Node(dataclasses.replace(storm, tls=tls, rate=rate), CLIENTS[2]).run()
            print(f"{tls:>8.0f}{rate:>18,}{seconds(node.share(0.99)):>11}{seconds(node.share(1)):>11}"
                  f"{node.attempts / storm.clients:>7.1f}{node.rejected:>9,}{node.wasted / node.work:>12.0%}"
                  f"{queue(node):>10}")


def bench():
    """5,000 clients that connect as fast as one thread can, with old tokens and one shared subject, on two cores."""
    storm = Storm(clients=5000, cores=2, busy=0.5, notice=0.1, token=0.0, subscribe=0.0)
    node = Node(storm, CLIENTS[0]).run()
    print(f"half back {node.share(0.5) * 1000:,.0f} ms, 99 % back {node.share(0.99) * 1000:,.0f} ms, "
          f"all back {node.share(1) * 1000:,.0f} ms, {node.work / storm.clients * 1e6:.1f} µs of CPU each, "
          f"{node.rejected} rejected, {node.dropped} lost SYNs")


# From the palette of Okabe and Ito, for a light and for a dark page.
COLOURS = [("#d55e00", "#e8853d"), ("#b8860b", "#f0c05a"), ("#0072b2", "#56b4e9"), ("#009e73", "#3ccfa5")]
STYLE = """<style>
.page { fill: #ffffff } .ink { fill: #1f2328 } .soft { fill: #59636e }
.rule { stroke: #d0d7de } .limit { stroke: #59636e }
%s
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .ink { fill: #f0f6fc } .soft { fill: #9198a1 }
.rule { stroke: #30363d } .limit { stroke: #9198a1 }
%s
}
</style>"""
WIDTH, LEFT, RIGHT, PANEL = 860, 70, 30, 230


class Panel:
    """One diagram: time from left to right, and a value from 0 to `top`."""

    def __init__(self, y, until, top):
        self.y, self.until, self.top, self.parts = y, until, top, []

    def x_of(self, time):
        return LEFT + (WIDTH - LEFT - RIGHT) * time / self.until

    def y_of(self, value):
        return self.y + PANEL * (1 - value / self.top)

    def text(self, x, y, text, kind="ink", anchor="start", size=13):
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        self.parts.append(f'<text class="{kind}" {place}>{text}</text>')

    def rule(self, x1, y1, x2, y2, kind="rule", dash=""):
        place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.parts.append(f'<line class="{kind}" {place}{dash}/>')

    def axes(self, title, values, times):
        self.text(LEFT - 50, self.y - 14, title, size=14)
        for value, label in values:
            self.rule(LEFT, self.y_of(value), WIDTH - RIGHT, self.y_of(value))
            self.text(LEFT - 8, self.y_of(value) + 4, label, "soft", "end", 12)
        for time in times:
            self.text(self.x_of(time), self.y + PANEL + 18, f"{time} s", "soft", "middle", 12)

    def line(self, points, number):
        joined = " ".join(f"{self.x_of(time):.1f},{self.y_of(value):.1f}" for time, value in points)
        self.parts.append(f'<polyline class="line{number}" points="{joined}"/>')


def legend(panel, nodes):
    for number, node in enumerate(nodes):
        x, y = LEFT + (number % 4) * 195, 56
        panel.parts.append(f'<line class="line{number}" x1="{x}" y1="{y - 4}" x2="{x + 22}" y2="{y - 4}"/>')
        panel.text(x + 28, y, node.backoff.name)


def draw(storm, nodes, until=20):
    step = until / 240
    upper, lower = Panel(100, until, 100), Panel(410, until, 0)
    upper.axes("clients that are back, %", [(value, f"{value}") for value in range(0, 101, 25)], range(0, until + 1, 5))
    legend(upper, nodes)
    lower.top = 60_000
    lower.axes("connection attempts (SYNs) that reach the node, per second",
               [(value, f"{value:,}") for value in range(0, 60_001, 15_000)], range(0, until + 1, 5))
    for number, node in enumerate(nodes):
        points, at = [], 0
        for tick in range(241):
            while at < len(node.back) and node.back[at] <= tick * step:
                at += 1
            points.append((tick * step, 100 * at / storm.clients))
        upper.line(points, number)
        counts = (per_second(node.arrivals) + [0] * until)[:until]
        lower.line([(second + edge, count) for second, count in enumerate(counts) for edge in (0, 1)], number)
    lower.rule(LEFT, lower.y_of(storm.rate), WIDTH - RIGHT, lower.y_of(storm.rate), "limit", ' stroke-dasharray="5 4"')
    lower.text(WIDTH - RIGHT, lower.y_of(storm.rate) - 6, f"limits.handshakes_per_s = {storm.rate}", "soft", "end", 12)
    title = f"{storm.clients:,} clients reconnect to one node"
    colours = [" ".join(f".line{number} {{ stroke: {pair[shade]} }}" for number, pair in enumerate(COLOURS))
               for shade in (0, 1)]
    fixed = ("polyline, line { fill: none; stroke-width: 1 } [class^=line] { stroke-width: 2.2 }\n"
             ".line1 { stroke-dasharray: 9 5 }")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 680" width="{WIDTH}" height="680" '
        'font-family="system-ui, \'DejaVu Sans\', Helvetica, Arial, sans-serif" role="img">',
        f"<title>{title}, by the kind of client</title>",
        STYLE % (fixed + "\n" + colours[0], colours[1]),
        '<rect class="page" width="100%" height="100%"/>',
        f'<text class="ink" x="{LEFT - 50}" y="30" font-size="18" font-weight="bold">{title}</text>',
        *upper.parts, *lower.parts, "</svg>", ""])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kinds = {"clients": "clients that this node gets", "cores": "cores of the node",
             "busy": "part of the cores that the clients already there use",
             "notice": "seconds over which clients notice the loss", "rate": "limits.handshakes_per_s",
             "burst": "limits.handshakes_burst", "wait": "limits.handshake_wait_ms, in seconds",
             "backlog": "length of the listener's queue", "tls": "CPU of a TLS handshake on the node, µs",
             "token": "CPU to verify a new token, µs; 0 for tokens that the node has seen",
             "subscribe": "CPU for further subscriptions, µs", "seed": "seed of the random numbers"}
    for field in dataclasses.fields(Storm):
        parser.add_argument(f"--{field.name}", type=field.type, default=field.default,
                            help=f"{kinds[field.name]} [{field.default}]")
    parser.add_argument("--svg", help="write the picture to this file")
    parser.add_argument("--settings", action="store_true", help="compare limits and the cost of TLS")
    parser.add_argument("--bench", action="store_true", help="the load of `tidegate bench storm`")
    return parser.parse_args()


def main():
    given = arguments()
    if given.bench:
        return bench()
    storm = Storm(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Storm)})
    if given.settings:
        return settings(storm)
    nodes = [Node(storm, backoff).run() for backoff in CLIENTS]
    compare(storm, nodes)
    if given.svg:
        with open(given.svg, "w", encoding="utf-8") as file:
            file.write(draw(storm, nodes))
    return None


if __name__ == "__main__":
    main()
