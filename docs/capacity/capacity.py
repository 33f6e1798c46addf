#!/usr/bin/env python3
"""Calculates what a load needs from one machine that runs Tidegate and its nats-server, and what breaks first.

    docs/capacity/capacity.py --sockets 100000
    docs/capacity/capacity.py --sockets 20000 --rate 20 --audience all
    docs/capacity/capacity.py --sockets 50000 --rate 5000 --audience one --cores 8
    docs/capacity/capacity.py --check              compares the formulas with measured runs
    docs/capacity/capacity.py --costs              prints the costs that the formulas use

../CAPACITY.md explains the formulas. It has the output of these commands, and a test compares them.
"""

import argparse
import dataclasses
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
MIB, GIB = 1 << 20, 1 << 30

# What things cost. `measured` is read from a run, `fitted` makes the formulas agree with several runs, and `estimate`
# is neither.
COSTS = {
    "node": (24.4 * MIB, "bytes", "fitted", "both processes without sockets, on two cores"),
    "socket": (2850, "bytes", "measured", "a socket with one subscription that it shares with others"),
    "kernel": (5000, "bytes", "measured", "the kernel's objects for a socket: not in the memory of the process"),
    "subscription": (260, "bytes", "fitted", "each further subscription of a socket to a shared channel"),
    "feed": (490, "bytes", "measured", "a channel in use, in Tidegate"),
    "feed_pattern": (330, "bytes", "measured", "the same with `feed = \"pattern\"`"),
    "interest": (1290, "bytes", "measured", "a channel in use, in nats-server; nothing with `feed = \"pattern\"`"),
    "slow": (1.25 * MIB, "bytes", "computed", "a client that does not read: its outbox and send buffer, at most"),
    "ping": (18, "µs", "measured", "a ping and its answer"),
    "connect": (60, "µs", "measured", "a handshake with a token and one subscription"),
    "write": (6.5, "µs", "fitted", "a write to one socket, with the kernel's work"),
    "frame": (0.054, "µs", "fitted", "a frame in a write"),
    "kilobyte": (0.11, "µs", "fitted", "each 1,000 bytes of payload in a frame"),
    "publication": (2.1, "µs", "fitted", "a publication in Tidegate: read, check, encode, pass to the shards"),
    "cold": (4.2, "µs", "fitted", "the same if there are more channels than the caches hold"),
    "cold_pattern": (1.4, "µs", "fitted", "the same with `feed = \"pattern\"`"),
    "nats": (2.8, "µs", "fitted", "a publication in nats-server"),
    "cold_nats": (5.0, "µs", "fitted", "the same if there are more than 1,024 subjects"),
    "cold_nats_pattern": (2.0, "µs", "fitted", "the same with `feed = \"pattern\"`"),
    "waking": (210, "µs", "fitted", "waking both processes for a publication while there are few"),
}

# Channels above which the memory of feeds and of nats-server's subjects is in no cache.
COLD = 1024
# The rate of publications at which half of these wake-ups are saved.
AWAKE = 2400
# Bytes that a native message adds to a payload on the wire, and the headers of a segment.
MESSAGE, SEGMENT = 95, 66
# The descriptors that are not connections: src/app/descriptors.rs.
EXTRA_SOCKETS, MAX_BUSY_REPLIES, PER_NODE, PER_SHARD = 1024, 256, 32, 12
# The parts of a machine that a load may use. The rest is for bursts, and for clients that reconnect.
SHARE = {"memory": 0.8, "cores": 0.7, "descriptors": 1.0, "network": 0.7}
# The calculation looks for no higher number of sockets.
MOST = 1 << 31


def cost(name):
    return COSTS[name][0]


@dataclasses.dataclass
class Load:
    sockets: int
    rate: float = 0.0
    audience: str = "all"
    payload: int = 200
    channels: int = 1
    per_write: float = 1.0
    feed: str = "subject"
    ping: float = 25.0
    slow: int = 0
    cores: int = 4

    def receivers(self):
        """The sockets that one publication reaches."""
        return {"all": self.sockets, "one": 1}.get(self.audience) or min(int(self.audience), self.sockets)

    def feeds(self):
        """The different channels of all sockets together."""
        return max(1, round(self.sockets * self.channels / self.receivers()))

    def per_socket(self):
        """The messages that one socket receives per second."""
        return self.rate * self.receivers() / self.sockets

    def with_sockets(self, sockets):
        """The same load per socket with another number of sockets."""
        rate = self.rate if self.audience == "all" else self.rate * sockets / self.sockets
        return dataclasses.replace(self, sockets=sockets, rate=rate)


def user_memory(load):
    """The resident memory of Tidegate and nats-server."""
    pattern = load.feed == "pattern"
    own = cost("socket") + (load.channels - 1) * cost("subscription")
    feed = cost("feed_pattern") if pattern else cost("feed") + cost("interest")
    shared = 0 if load.audience == "all" else load.feeds() * feed
    return cost("node") + load.sockets * own + shared + load.slow * cost("slow")


def delivery_cpu(load):
    """Microseconds of CPU per second for deliveries, in both processes."""
    pattern, cold = load.feed == "pattern", load.feeds() > COLD
    suffix = "_pattern" if pattern else ""
    deliveries = load.rate * load.receivers()
    frame = cost("frame") + load.payload / 1000 * cost("kilobyte")
    publication = cost("publication") + (cost("cold" + suffix) if cold else 0)
    publication += cost("nats") + (cost("cold_nats" + suffix) if cold else 0)
    publication += cost("waking") / (1 + (load.rate / AWAKE) ** 2)
    return deliveries * (cost("write") / load.per_write + frame) + load.rate * publication


def idle_cpu(load):
    """Microseconds of CPU per second for pings."""
    return load.sockets / load.ping * cost("ping")


def descriptors(load):
    return load.sockets + EXTRA_SOCKETS + MAX_BUSY_REPLIES + PER_NODE + PER_SHARD * load.cores


def network(load):
    """Bits per second that leave the machine."""
    deliveries = load.rate * load.receivers()
    return 8 * deliveries * (load.payload + MESSAGE + SEGMENT / load.per_write)


def needs(load):
    return {
        "memory": user_memory(load) + load.sockets * cost("kernel"),
        "cores": (delivery_cpu(load) + idle_cpu(load)) / 1e6,
        "descriptors": descriptors(load),
        "network": network(load),
    }


def most_sockets(load, limits):
    """For each resource, the most sockets that it allows with this load per socket."""
    found = {}
    for resource, limit in limits.items():
        low, high = 0, MOST
        while low < high:
            middle = (low + high + 1) // 2
            fits = needs(load.with_sockets(middle))[resource] <= limit * SHARE[resource]
            low, high = (middle, high) if fits else (low, middle - 1)
        found[resource] = low
    return found


def messages_per_write(load, cores):
    """How many messages a write must send so that the deliveries fit on the cores; `None` if no number is enough."""
    one_by_one = dataclasses.replace(load, per_write=1)
    writes = load.rate * load.receivers() * cost("write") / 1e6
    left = cores * SHARE["cores"] - (needs(one_by_one)["cores"] - writes)
    return max(1.0, writes / left) if left > 0 else None


def shown(resource, value):
    match resource:
        case "memory":
            return f"{value / GIB:,.2f} GiB"
        case "cores":
            return f"{value:,.2f}"
        case "network":
            return f"{value / 1e9:,.3f} Gbit/s"
        case _:
            return f"{value:,.0f}"


def most_shown(sockets):
    return "no limit" if sockets == MOST else f"{sockets:,}"


def rounded_up(value, step):
    return -(-int(value) // step) * step


def settings(load, limits):
    """The settings to raise or to know, with their reasons."""
    room = max(load.sockets, min(load.sockets * 5 // 4, most_sockets(load, limits)["memory"]))
    files = rounded_up(descriptors(dataclasses.replace(load, sockets=room)), 1000)
    found = [(f"ulimit -n {files}", "LimitNOFILE= in systemd: a descriptor for each socket, and a reserve")]
    if files > 1 << 20:
        found.append((f"fs.nr_open = {files}", "no limit on open files may be higher than this"))
    found.append((f"limits.connections = {room}", "a quarter more than now, if the memory holds it"))
    rate = max(5000, rounded_up(load.sockets / 60, 1000))
    seconds, share = load.sockets / rate, rate * cost("connect") / 1e6
    found.append((f"limits.handshakes_per_s = {rate}", f"all reconnect in {seconds:,.0f} s, with {share:.2f} cores"))
    if load.sockets > 100_000:
        most = rounded_up(room * 1.2, 1000)
        found.append((f"net.netfilter.nf_conntrack_max = {most}", "only if a firewall here tracks connections"))
    if load.sockets > 28_000:
        found.append(("net.ipv4.ip_local_port_range = 1024 65535", "only on a proxy: ports for each pair of addresses"))
    return found


def report(load, limits):
    receivers, rate = load.receivers(), load.rate
    unit = "message/s" if rate == 1 else "messages/s"
    messages = f"{rate:,g} {unit} of {load.payload} bytes to {receivers:,} each" if rate else "no messages"
    print(f"{load.sockets:,} sockets, {messages}: {rate * receivers:,.0f} deliveries/s")
    print()
    need, most = needs(load), most_sockets(load, limits)
    print(f"{'':12} {'needed':>14} {'machine':>14} {'used':>6} {'most sockets':>14}")
    for resource, limit in limits.items():
        print(f"{resource:12} {shown(resource, need[resource]):>14} {shown(resource, limit):>14} "
              f"{need[resource] / limit:>6.0%} {most_shown(most[resource]):>14}")
    print()
    kernel = load.sockets * cost("kernel")
    print(f"memory: {user_memory(load) / MIB:,.0f} MiB in the processes, {kernel / MIB:,.0f} MiB in the kernel")
    print(f"cores:  {delivery_cpu(load) / 1e6:.2f} for deliveries, {idle_cpu(load) / 1e6:.2f} for pings")
    first = min(most, key=most.get)
    verdict = "fits" if most[first] >= load.sockets else "does NOT fit"
    print(f"It {verdict}. The first limit is {first}, at {most[first]:,} sockets "
          f"({SHARE[first]:.0%} of the machine's).")
    if need["cores"] > limits["cores"] * SHARE["cores"]:
        per_write = messages_per_write(load, limits["cores"])
        if per_write is None:
            print("No number of messages in a write makes the deliveries fit on these cores.")
        else:
            print(f"On these cores a write sends {per_write:.1f} messages, so that they wait for "
                  f"{per_write / load.per_socket() * 1000:,.0f} ms.")
    print()
    lines = settings(load, limits)
    width = max(len(setting) for setting, _ in lines)
    for setting, reason in lines:
        print(f"{setting:{width}}  {reason}")


def calculated(figure, load):
    deliveries = load.rate * load.receivers()
    match figure:
        case "socket_bytes":
            return (user_memory(load) - cost("node")) / load.sockets
        case "memory_mib":
            return user_memory(load) / MIB
        case "cpu_us":
            return delivery_cpu(load) / deliveries
        case "idle_cpu_percent":
            return idle_cpu(load) / 1e4
        case "kernel_bytes":
            return cost("kernel")
        case "connect_us":
            return cost("connect")
        case "descriptors":
            return descriptors(load)
    raise ValueError(f"there is no figure {figure}")


FIGURES = {
    "socket_bytes": "bytes of a socket in user space",
    "kernel_bytes": "bytes of a socket in the kernel",
    "memory_mib": "MiB of both processes",
    "cpu_us": "CPU µs per delivery",
    "idle_cpu_percent": "idle CPU, % of a core",
    "connect_us": "CPU µs to connect",
    "descriptors": "limit on open files",
}


def check():
    """Compares the formulas with the measured runs. Returns whether all are within the factor."""
    table = tomllib.loads((HERE / "measured.toml").read_text(encoding="utf-8"))
    factor, good = table["factor"], True
    print(f"{'run':34} {'figure':32} {'measured':>10} {'calculated':>10} {'ratio':>6}")
    for run in table["run"]:
        load = Load(**run["load"])
        for figure, value in run["measured"].items():
            answer = calculated(figure, load)
            ratio = answer / value
            fits = 1 / factor <= ratio <= factor
            good = good and fits
            print(f"{run['name']:34} {FIGURES[figure]:32} {value:>10,.2f} {answer:>10,.2f} {ratio:>6.2f}"
                  f"{'' if fits else '  more than the factor of ' + str(factor)}")
    return good


def costs():
    print("| cost | | how we know | what |")
    print("|---|---|---|---|")
    for name, (value, unit, source, what) in COSTS.items():
        amount = f"{value / MIB:,.2f} MiB" if value >= MIB else f"{value:,g} {unit}"
        print(f"| `{name}` | {amount} | {source} | {what} |")


def at_least(kind, least):
    def parse(text):
        value = kind(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value
    return parse


def audience(text):
    return text if text in ("all", "one") else str(at_least(int, 1)(text))


def arguments():
    count = at_least(int, 1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sockets", type=count, help="sockets on this machine")
    parser.add_argument("--rate", type=at_least(float, 0), default=0, help="publications per second [0]")
    parser.add_argument("--audience", type=audience, default="all",
                        help="who gets a publication: all, one, or a number of sockets [all]")
    parser.add_argument("--payload", type=at_least(int, 0), default=200, help="bytes of a publication [200]")
    parser.add_argument("--channels", type=count, default=1, help="subscriptions of a socket [1]")
    parser.add_argument("--per-write", type=at_least(float, 1), default=1,
                        help="messages of a socket that one write sends [1]")
    parser.add_argument("--feed", choices=["subject", "pattern"], default="subject",
                        help="the class's `feed` [subject]")
    parser.add_argument("--ping", type=at_least(float, 1), default=25, help="limits.ping_interval_s [25]")
    parser.add_argument("--slow", type=at_least(int, 0), default=0, help="clients that do not read what they get [0]")
    parser.add_argument("--cores", type=count, default=4, help="cores of the machine [4]")
    parser.add_argument("--memory", type=at_least(float, 0.01), default=16, help="GiB of the machine [16]")
    parser.add_argument("--files", type=count, default=524_288, help="the hard limit on open files [524288]")
    parser.add_argument("--network", type=at_least(float, 0.01), default=10, help="Gbit/s of the machine [10]")
    parser.add_argument("--check", action="store_true", help="compare the formulas with measured runs")
    parser.add_argument("--costs", action="store_true", help="print the costs that the formulas use")
    given = parser.parse_args()
    if given.sockets is None and not (given.check or given.costs):
        parser.error("how many --sockets?")
    return given


def main():
    given = arguments()
    if given.check:
        sys.exit(0 if check() else 1)
    if given.costs:
        return costs()
    fields = {field.name for field in dataclasses.fields(Load)}
    load = Load(**{name: value for name, value in vars(given).items() if name in fields})
    limits = {"memory": given.memory * GIB, "cores": given.cores,
              "descriptors": given.files, "network": given.network * 1e9}
    return report(load, limits)


if __name__ == "__main__":
    main()
