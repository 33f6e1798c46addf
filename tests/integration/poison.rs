//! Messages that the client of NATS cannot read: they cost one gap where they come, and nothing else.

use tidegate::protocol::subject::Pattern;

use crate::support::edge::TestEdge;
use crate::support::ledger::Gap;
use crate::support::ledger::audit;
use crate::support::nats_server::RawProducer;
use crate::support::producer::Producer;
use crate::support::recorder::Recorder;

/// What nobody should send and the server passes on: the subject behind the prefix, and the headers.
const FORMS: [(&str, &[u8], Option<&str>); 4] = [
    ("a subject that is no UTF-8", b"\xff\xfe", None),
    ("a header line without a colon", b"a", Some("NATS/1.0\r\nno colon here\r\n\r\n")),
    ("a blank in the name of a header", b"a", Some("NATS/1.0\r\nbad name: x\r\n\r\n")),
    ("a status line that is none", b"a", Some("NATS/1.0 abc\r\nname: x\r\n\r\n")),
];

/// The first of these channels that belongs to the lane.
fn owned_by(edge: &TestEdge, lane: usize, name: impl Fn(usize) -> String) -> String {
    (0..).map(name).find(|name| edge.app.lanes.index_of(&Pattern::parse(name).unwrap()) == lane).unwrap()
}

/// Waits until each of these has brought something newer than what is published now.
async fn goes_on(producer: &Producer, recorders: &mut [Recorder], channels: &[(&str, &str)]) {
    let number = producer.number();
    for recorder in recorders {
        recorder
            .until("newer messages", |log| {
                channels.iter().all(|(on, subject)| log.newest(on, subject) > number)
            })
            .await;
    }
}

#[tokio::test]
async fn nat_09_a_message_that_cannot_be_read_costs_one_gap_on_its_lane() {
    let edge = TestEdge::start().await;
    let poisoned = owned_by(&edge, 0, |number| format!("chat.p{number}.*"));
    let prefix = poisoned.trim_end_matches('*');
    let subject = format!("{prefix}a");
    let beside = owned_by(&edge, 0, |number| format!("chat.b{number}"));
    let other = owned_by(&edge, 1, |number| format!("chat.o{number}"));
    let mut recorders = Vec::new();
    for shard in 0..2 {
        let mut recorder = Recorder::start(edge.client_on(shard).await);
        for channel in [&poisoned, &beside, &other] {
            recorder.join(channel).await;
        }
        recorders.push(recorder);
    }
    let channels = [(&*poisoned, &*subject), (&*beside, &*beside), (&*other, &*other)];
    let subjects = channels.iter().map(|(_, subject)| (*subject).to_owned()).collect();
    let producer = Producer::start(&edge.nats, subjects).await;
    let mut raw = RawProducer::connect(&edge.nats).await;
    goes_on(&producer, &mut recorders, &channels).await;
    let before = edge.nats.connections_made().await;
    for (round, (form, last, headers)) in (1..).zip(FORMS) {
        raw.publish(&[prefix.as_bytes(), last].concat(), headers, b"poison").await;
        for recorder in &mut recorders {
            recorder.until(form, |log| log.gaps(&poisoned) == round && log.gaps(&beside) == round).await;
        }
        goes_on(&producer, &mut recorders, &channels).await;
        edge.readyz(200).await;
    }
    assert_eq!(edge.nats.connections_made().await - before, FORMS.len() as u64, "one new link for each");
    producer.stop().await;
    for recorder in recorders {
        let log = recorder.stop().await;
        let gap = Gap { cause: "nats".to_owned(), dropped: None };
        assert_eq!(audit(&log, &poisoned), vec![gap.clone(); FORMS.len()]);
        assert_eq!(audit(&log, &beside), vec![gap; FORMS.len()]);
        assert_eq!(audit(&log, &other), []);
    }
}
