//! Malformed messages from NATS: a message that cannot be delivered costs one gap and nothing else.

use tidegate_protocol::class::Class;
use tidegate_protocol::subject::Pattern;

use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::ledger::Gap;
use crate::support::ledger::audit;
use crate::support::nats_server::RawProducer;
use crate::support::producer::Producer;
use crate::support::recorder::Received;
use crate::support::recorder::Recorder;

/// Malformed headers.
const FORMS: [(&str, &[u8]); 4] = [
    ("a line without a colon", b"NATS/1.0\r\nno colon here\r\n\r\n"),
    ("a blank in a name", b"NATS/1.0\r\nbad name: x\r\n\r\n"),
    ("a value that is not UTF-8", b"NATS/1.0\r\nname: \xff\xfe\r\n\r\n"),
    ("a key that is not UTF-8", b"NATS/1.0\r\nTidegate-Key: \xff\xfe\r\n\r\n"),
];
const BAD_STATUS: &[u8] = b"NATS/1.0 abc\r\nname: x\r\n\r\n";

/// The first of these channels that belongs to the lane.
fn owned_by(edge: &TestEdge, lane: usize, name: impl Fn(usize) -> String) -> String {
    (0..)
        .map(name)
        .find(|name| edge.app.node.lanes.by_hash(&Pattern::parse(name).unwrap()).0 == lane)
        .unwrap()
}

/// Waits until each client has received a message that is published after this call.
async fn receives_newer(producer: &Producer, recorders: &mut [Recorder], channels: &[(&str, &str)]) {
    let number = producer.number();
    for recorder in recorders {
        recorder
            .until("newer messages", |log| {
                channels.iter().all(|(on, subject)| log.newest(on, subject) > number)
            })
            .await;
    }
}

/// A node whose lane 0 has a pattern for malformed messages and another subject, and whose lane 1 has a subject; and a
/// client on each shard, subscribed to all three. The class of the pattern shows these headers.
struct PoisonedNode {
    edge: TestEdge,
    prefix: String,
    channels: [String; 3],
    recorders: Vec<Recorder>,
    producer: Producer,
    raw: RawProducer,
    connections: u64,
}

impl PoisonedNode {
    async fn start(headers: &[&str]) -> Self {
        let headers = headers.iter().map(|name| (*name).to_owned()).collect();
        let shown = Class { headers, ..class("chat.>") };
        let edge = TestEdge::with(|config| config.classes.push(shown)).await;
        let poisoned = owned_by(&edge, 0, |number| format!("chat.p{number}.*"));
        let prefix = poisoned.trim_end_matches('*').to_owned();
        let neighbour = owned_by(&edge, 0, |number| format!("chat.b{number}"));
        let other = owned_by(&edge, 1, |number| format!("chat.o{number}"));
        let subjects = vec![format!("{prefix}a"), neighbour.clone(), other.clone()];
        let channels = [poisoned, neighbour, other];
        let mut recorders = Vec::new();
        for shard in 0..2 {
            let mut recorder = Recorder::start(edge.client_on(shard).await);
            for channel in &channels {
                recorder.join(channel).await;
            }
            recorders.push(recorder);
        }
        let producer = Producer::start(&edge.nats, subjects).await;
        let raw = RawProducer::connect(&edge.nats).await;
        let connections = edge.nats.connections_made().await;
        let mut world = Self { edge, prefix, channels, recorders, producer, raw, connections };
        world.receives_newer().await;
        world
    }

    /// Publishes on a subject of the pattern.
    async fn publish(&mut self, token: &[u8], headers: Option<&[u8]>, payload: &str) {
        let subject = [self.prefix.as_bytes(), token].concat();
        self.raw.publish(&subject, headers, payload.as_bytes()).await;
    }

    /// Waits until all channels deliver newer messages, over the same NATS connections.
    async fn receives_newer(&mut self) {
        let subject = format!("{}a", self.prefix);
        let [poisoned, neighbour, other] = &self.channels;
        let channels = [(&**poisoned, &*subject), (neighbour, neighbour), (other, other)];
        receives_newer(&self.producer, &mut self.recorders, &channels).await;
        assert_eq!(self.edge.nats.connections_made().await, self.connections, "the node has not reconnected");
    }

    /// Checks that the first channel has gaps for so many malformed messages, and that the others miss nothing.
    async fn ends_with(self, malformed: usize) {
        self.producer.stop().await;
        for recorder in self.recorders {
            let log = recorder.stop().await;
            let [poisoned, neighbour, other] = &self.channels;
            let gap = Gap { cause: "malformed".to_owned(), dropped: Some(1) };
            let found: Vec<_> =
                log.received.iter().filter_map(|received| gap_on(received, poisoned)).collect();
            assert_eq!(found, vec![gap; malformed]);
            assert_eq!(audit(&log, neighbour), []);
            assert_eq!(audit(&log, other), []);
        }
    }
}

fn gap_on(received: &Received, on: &str) -> Option<Gap> {
    match received {
        Received::Gap { channel, cause, dropped } if channel == on => {
            Some(Gap { cause: cause.clone(), dropped: *dropped })
        }
        Received::Subscribed { .. }
        | Received::Unsubscribed { .. }
        | Received::Message { .. }
        | Received::Gap { .. }
        | Received::Refused { .. }
        | Received::Other(_) => None,
    }
}

#[tokio::test]
async fn nat_09_an_invalid_subject_is_one_gap_and_nothing_else() {
    let mut world = PoisonedNode::start(&[]).await;
    for round in 1..=3 {
        world.publish(b"\xff\xfe", None, "poison").await;
        world.publish(b"\xff\xfe", Some(BAD_STATUS), "poison").await;
        let poisoned = world.channels[0].clone();
        for recorder in &mut world.recorders {
            recorder.until("two gaps", |log| log.gaps(&poisoned) == 2 * round).await;
        }
        world.receives_newer().await;
    }
    world.ends_with(6).await;
}

#[tokio::test]
async fn nat_09_invalid_headers_are_harmless_if_the_class_hides_them() {
    let mut world = PoisonedNode::start(&["good"]).await;
    let forms =
        FORMS[..3].iter().map(|(form, headers)| (*form, *headers)).chain([("a bad status", BAD_STATUS)]);
    for (number, (form, headers)) in (1..).zip(forms) {
        world.publish(b"z", Some(headers), &format!("{{\"n\":{number}}}")).await;
        let (poisoned, subject) = (world.channels[0].clone(), format!("{}z", world.prefix));
        for recorder in &mut world.recorders {
            recorder.until(form, |log| log.newest(&poisoned, &subject) == number).await;
        }
        world.receives_newer().await;
    }
    world.ends_with(0).await;
}

#[tokio::test]
async fn nat_09_invalid_headers_are_one_gap_if_the_class_shows_them() {
    let mut world = PoisonedNode::start(&["*"]).await;
    for (round, (form, headers)) in (1..).zip(FORMS) {
        world.publish(b"z", Some(headers), "poison").await;
        let poisoned = world.channels[0].clone();
        for recorder in &mut world.recorders {
            recorder.until(form, |log| log.gaps(&poisoned) == round).await;
        }
        world.receives_newer().await;
    }
    world.publish(b"z", Some(BAD_STATUS), "{\"n\":7}").await;
    let (poisoned, subject) = (world.channels[0].clone(), format!("{}z", world.prefix));
    for recorder in &mut world.recorders {
        recorder.until("a bad status", |log| log.newest(&poisoned, &subject) == 7).await;
    }
    world.ends_with(FORMS.len()).await;
}
