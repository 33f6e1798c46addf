//! Several faults at once, in an order that a seed decides: clients never lose messages without a gap.

use std::time::Duration;

use fastrand::Rng;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::LaneBy;

use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::ledger::audit;
use crate::support::ledger::audit_latest;
use crate::support::producer::Pace;
use crate::support::producer::Producer;
use crate::support::recorder::Log;
use crate::support::recorder::Received;
use crate::support::recorder::Recorder;

const STEPS: usize = 25;
const PACE: Pace = Pace { burst: 3, rest: Duration::from_millis(30) };

/// A channel, and a subject that is delivered on it.
struct Interest {
    channel: String,
    subject: String,
}

struct FaultyNode {
    edge: TestEdge,
    nats_is_up: bool,
    sleeping: Vec<bool>,
    recorders: Vec<Recorder>,
    interests: Vec<Interest>,
}

impl FaultyNode {
    /// Starts two clients on each shard, which subscribe to subjects of both lanes and both classes, by name and by
    /// pattern.
    async fn begin(feed: FeedBy, lane: LaneBy) -> Self {
        let edge = TestEdge::with(|config| {
            config.classes.push(class("chat.*"));
            config.classes.iter_mut().for_each(|class| (class.feed, class.lane) = (feed, lane));
            config.limits.inbox_bytes = 20_000;
            config.limits.outbox_bytes = 16_000;
            config.limits.send_buffer_bytes = 4096;
            config.limits.max_errors = 10_000;
            config.limits.commands_burst = 10_000;
            config.limits.inbound_burst_bytes = 10_000_000;
        })
        .await;
        let mut interests = Vec::new();
        for class in ["chat", "prices"] {
            for lane in 0..2 {
                for subject in edge.subjects_of(lane, class).take(2) {
                    interests.push(Interest { channel: subject.clone(), subject: subject.clone() });
                    interests.push(Interest { channel: format!("{class}.*"), subject });
                }
            }
        }
        let mut recorders = Vec::new();
        for shard in [0, 1, 0, 1] {
            recorders.push(Recorder::start(edge.small_client_on(shard).await));
        }
        let mut world = Self { edge, nats_is_up: true, sleeping: vec![false; 4], recorders, interests };
        world.all_subscribed().await;
        world
    }

    fn channels(&self) -> Vec<String> {
        let mut channels: Vec<String> =
            self.interests.iter().map(|interest| interest.channel.clone()).collect();
        channels.sort();
        channels.dedup();
        channels
    }

    fn subjects(&self) -> Vec<String> {
        let literal = self.interests.iter().filter(|interest| interest.channel == interest.subject);
        literal.map(|interest| interest.subject.clone()).collect()
    }

    /// Starts or ends one fault, or lets a client leave a channel and join it again.
    async fn step(&mut self, rng: &mut Rng) {
        match rng.usize(..8) {
            0 | 1 if self.nats_is_up => {
                self.edge.nats.kill();
                self.nats_is_up = false;
            }
            0 | 1 => {
                self.edge.nats.restart().await;
                self.nats_is_up = true;
            }
            2 => self.edge.hooks.pump.close(rng.usize(..2)),
            3 => self.edge.hooks.pump.open(),
            4 | 5 => {
                let client = rng.usize(..self.recorders.len());
                self.sleeping[client] = !self.sleeping[client];
                self.recorders[client].reads(!self.sleeping[client]);
            }
            _ => {
                let channels = self.channels();
                let channel = &channels[rng.usize(..channels.len())];
                let recorder = &self.recorders[rng.usize(..self.recorders.len())];
                recorder.unsubscribe(channel).await;
                recorder.subscribe(channel).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(10..130))).await;
    }

    /// Ends all faults.
    async fn heal(&mut self) {
        self.edge.hooks.pump.open();
        self.recorders.iter().for_each(|recorder| recorder.reads(true));
        if !self.nats_is_up {
            self.edge.nats.restart().await;
        }
        self.edge.readyz(200).await;
        self.all_subscribed().await;
    }

    /// Publishes one more message on each subject until all clients receive all of them, so that no queue is full any
    /// more. Returns the last number.
    async fn calm(&mut self, newest: u64) -> u64 {
        let subjects = self.subjects();
        let mut pause = Duration::from_millis(50);
        for last in newest + 1..newest + 9 {
            self.edge.publish_numbers(&subjects, last..=last).await;
            tokio::time::sleep(pause).await;
            if self.recorders.iter().all(|recorder| self.has_all(&recorder.so_far(), last)) {
                return last;
            }
            pause *= 2;
        }
        panic!("not every client receives the last message of each subject");
    }

    fn has_all(&self, log: &Log, number: u64) -> bool {
        self.interests.iter().all(|interest| log.newest(&interest.channel, &interest.subject) == number)
    }

    /// Subscribes again where a join was refused while NATS was down, as clients do.
    async fn all_subscribed(&mut self) {
        let channels = self.channels();
        for recorder in &mut self.recorders {
            for channel in &channels {
                while !is_subscribed(&subscribe(recorder, channel).await) {}
            }
        }
    }
}

/// Subscribes once more and returns the reply.
async fn subscribe(recorder: &mut Recorder, channel: &str) -> Received {
    let replies = |log: &Log| log.received.iter().filter(|received| is_reply(received, channel)).count();
    let before = replies(&recorder.so_far());
    recorder.subscribe(channel).await;
    recorder.until("a reply", |log| replies(log) > before).await;
    recorder.so_far().received.into_iter().rfind(|received| is_reply(received, channel)).unwrap()
}

fn is_reply(received: &Received, on: &str) -> bool {
    match received {
        Received::Subscribed { channel, .. } => channel == on,
        Received::Refused { channel, code } => channel == on && code != "not_subscribed",
        Received::Unsubscribed { .. }
        | Received::Message { .. }
        | Received::Gap { .. }
        | Received::Other(_) => false,
    }
}

fn is_subscribed(reply: &Received) -> bool {
    match reply {
        Received::Refused { code, .. } => code == "already_subscribed",
        Received::Subscribed { .. } => true,
        Received::Unsubscribed { .. }
        | Received::Message { .. }
        | Received::Gap { .. }
        | Received::Other(_) => false,
    }
}

async fn no_message_is_lost_without_a_gap(seed: u64, feed: FeedBy, lane: LaneBy) {
    let mut rng = Rng::with_seed(seed);
    let mut world = FaultyNode::begin(feed, lane).await;
    let producer = Producer::at(PACE, &world.edge.nats, world.subjects()).await;
    for _ in 0..STEPS {
        world.step(&mut rng).await;
    }
    world.heal().await;
    let last = world.calm(producer.stop().await).await;
    for (client, recorder) in std::mem::take(&mut world.recorders).into_iter().enumerate() {
        let log = recorder.stop().await;
        assert!(log.gaps.values().sum::<u64>() > 0, "client {client} was affected by no fault");
        for Interest { channel, subject } in &world.interests {
            if channel.starts_with("chat.") {
                audit(&log, channel);
            } else {
                audit_latest(&log, channel, subject, last);
            }
        }
    }
}

#[tokio::test]
async fn no_message_is_lost_without_a_gap_with_seed_1() {
    no_message_is_lost_without_a_gap(1, FeedBy::Subject, LaneBy::Hash).await;
}

#[tokio::test]
async fn no_message_is_lost_without_a_gap_with_seed_2() {
    no_message_is_lost_without_a_gap(2, FeedBy::Subject, LaneBy::Hash).await;
}

#[tokio::test]
async fn no_message_is_lost_without_a_gap_with_seed_3() {
    no_message_is_lost_without_a_gap(3, FeedBy::Subject, LaneBy::Hash).await;
}

#[tokio::test]
async fn no_message_is_lost_without_a_gap_by_pattern_with_seed_4() {
    no_message_is_lost_without_a_gap(4, FeedBy::Pattern, LaneBy::Hash).await;
}

#[tokio::test]
async fn no_message_is_lost_without_a_gap_by_pattern_with_seed_5() {
    no_message_is_lost_without_a_gap(5, FeedBy::Pattern, LaneBy::Hash).await;
}

#[tokio::test]
async fn no_message_is_lost_without_a_gap_in_the_lane_of_the_first_client_with_seed_6() {
    no_message_is_lost_without_a_gap(6, FeedBy::Subject, LaneBy::Own).await;
}
