//! Workloads of a whole shard: from the bytes of nats-server or of a client to the writes to sockets, with the turns of
//! the runtime. The kernel is not counted.

use std::io::ErrorKind;
use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tidegate::config::Config;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::LaneBy;
use tidegate_protocol::subject::Pattern;

use crate::callgrind;
use crate::shard;
use crate::shard::Driver;
use crate::shard::send;
use crate::workloads::PAYLOAD;

/// One kind of load on a shard.
pub(crate) struct ShardWorkload {
    /// The name in `docs/benchmarks/instructions.toml`.
    pub(crate) name: &'static str,
    configure: fn(&mut Config),
    /// Puts the load on the shard, and ends three sections: for the start, a run, and a longer one.
    drive: fn(Driver) -> LocalBoxFuture<'static, ()>,
}

pub(crate) const SHARD_WORKLOADS: [ShardWorkload; 2] = [
    ShardWorkload { name: "lone", configure: own_lane, drive: |driver| lone(driver).boxed_local() },
    ShardWorkload {
        name: "heartbeats",
        configure: frequent_pings,
        drive: |driver| heartbeats(driver).boxed_local(),
    },
];

/// Runs all workloads, for callgrind. Prints the number of deliveries or pings of each section.
pub(crate) fn count() {
    for workload in &SHARD_WORKLOADS {
        shard::run(workload.configure, workload.drive);
    }
}

/// By workload: its name, and the instructions for one delivery or ping.
pub(crate) fn measured() -> Vec<(&'static str, u64)> {
    let (instructions, printed) = callgrind::run("shards");
    let events: Vec<u64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!((instructions.len(), events.len()), (3 * SHARD_WORKLOADS.len(), 3 * SHARD_WORKLOADS.len()));
    let sections = instructions.chunks_exact(3).zip(events.chunks_exact(3));
    SHARD_WORKLOADS
        .iter()
        .zip(sections)
        .map(|(workload, (instructions, events))| {
            (workload.name, (instructions[2] - instructions[1]) / (events[2] - events[1]))
        })
        .collect()
}

/// Ends a section in which there were this many deliveries or pings.
fn end_section(events: u64) {
    callgrind::section(&mut || println!("{events}"));
}

/// Few, so that the lane's tick, which depends on the time, costs little.
const LONE_CLIENTS: usize = 10;
/// Publications of the shorter run.
const LONE_LENGTH: u64 = 4000;

fn own_lane(config: &mut Config) {
    // No client is pinged meanwhile.
    config.limits.ping_interval = Duration::from_hours(1);
    config.classes =
        vec![Class { lane: LaneBy::Own, ..Class::plain(Pattern::parse("user.*.notes").unwrap()) }];
}

/// Clients with a subject each. One publication at a time arrives from nats-server, for one of them.
async fn lone(mut driver: Driver) {
    let mut clients = Vec::new();
    for number in 0..LONE_CLIENTS {
        let channel = format!("user.U{number}.notes");
        let client = driver.connect().await;
        driver.subscribe(&client, &channel).await;
        clients.push((tokio::net::TcpStream::from_std(client).unwrap(), channel));
    }
    let mut next = 0;
    for publications in [LONE_LENGTH, LONE_LENGTH, 2 * LONE_LENGTH] {
        for _ in 0..publications {
            let (client, channel) = &clients[next % LONE_CLIENTS];
            // 7 and 10 are coprime: this visits all clients, and never two neighbours in a row.
            next += 7;
            callgrind::uncounted(|| driver.nats.publish(channel, PAYLOAD));
            receive(client).await;
        }
        end_section(publications);
    }
}

/// Reads a publication.
async fn receive(client: &tokio::net::TcpStream) {
    let mut buffer = [0; 1024];
    loop {
        client.readable().await.unwrap();
        match client.try_read(&mut buffer) {
            Ok(count) => {
                assert!(count > PAYLOAD.len() && buffer[0] == 0x81, "{:?}", &buffer[..count]);
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

const PINGED_CLIENTS: usize = 1000;
/// Long enough that pings share slots.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The pings of two slots arrive together.
const ANSWERS_EVERY: Duration = Duration::from_millis(500);
const ANSWERS_PER_INTERVAL: u32 = 10;
/// What a client receives for a ping: a message for pages, which do not see the other, and a ping frame.
const PING: &[u8] = b"\x81\x0f{\"type\":\"ping\"}\x89\x00";

fn frequent_pings(config: &mut Config) {
    config.limits.ping_interval = PING_INTERVAL;
    // A slow machine must not end a connection.
    config.limits.pong_timeout = Duration::from_mins(1);
}

/// Idle clients that answer their pings. What is counted for a ping is its deadline, its frame, and its answer.
async fn heartbeats(driver: Driver) {
    let mut clients = Vec::new();
    for _ in 0..PINGED_CLIENTS {
        clients.push(driver.connect().await);
    }
    let mut times = tokio::time::interval(ANSWERS_EVERY);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for intervals in [1, 1, 3] {
        let mut pings = 0;
        for _ in 0..intervals * ANSWERS_PER_INTERVAL {
            times.tick().await;
            pings += callgrind::uncounted(|| clients.iter().map(answer_pings).sum::<u64>());
        }
        // The shard reads the last answers before the section ends.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        end_section(pings);
    }
}

/// Reads the pings of a client and answers them. Returns their number.
fn answer_pings(mut client: &TcpStream) -> u64 {
    let mut buffer = [0; 64];
    match client.read(&mut buffer) {
        Ok(count) => {
            let pings = buffer[..count].chunks(PING.len());
            assert!(count > 0 && pings.clone().all(|ping| ping == PING), "{:?}", &buffer[..count]);
            for _ in pings.clone() {
                send(client, 0x8a, &[]);
            }
            pings.len() as u64
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            0
        }
    }
}
