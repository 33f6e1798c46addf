//! NATS sends messages faster than the node reads them. They wait at the server; if the server drops the connection,
//! clients get a gap.

use crate::admin::has;
use crate::support::admin::on_loopback;
use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::ledger::Gap;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::recorder::Recorder;

/// A client on each shard that subscribes to all of these.
async fn listeners(edge: &TestEdge, subjects: &[String]) -> Vec<Recorder> {
    let mut recorders = Vec::new();
    for shard in 0..2 {
        let mut recorder = Recorder::start(edge.client_on(shard).await);
        for subject in subjects {
            recorder.join(subject).await;
        }
        recorders.push(recorder);
    }
    recorders
}

async fn until_all_have(recorders: &mut [Recorder], subject: &str, number: u64) {
    for recorder in recorders {
        recorder.until("the newest message", |log| log.newest(subject, subject) == number).await;
    }
}

/// Two subjects of lane 0, the first of which is flooded, and one of lane 1.
fn three_subjects(edge: &TestEdge) -> [String; 3] {
    let subject = |lane, number| edge.subjects_of(lane, "chat").nth(number).unwrap();
    [subject(0, 0), subject(0, 1), subject(1, 0)]
}

#[tokio::test]
async fn nat_02_a_stalled_reader_loses_nothing_and_other_lanes_continue() {
    let edge = TestEdge::start().await;
    let subjects = three_subjects(&edge);
    let [flooded, neighbour, other] = &subjects;
    let mut recorders = listeners(&edge, &subjects).await;
    for round in 1..=3 {
        edge.hooks.reader.close(0);
        let newest = round * 5000;
        edge.publish_numbers(std::slice::from_ref(flooded), newest - 4999..=newest).await;
        edge.publish_numbers(&[neighbour.clone(), other.clone()], round..=round).await;
        until_all_have(&mut recorders, other, round).await;
        for recorder in &recorders {
            let log = recorder.so_far();
            assert_eq!(
                (log.newest(flooded, flooded), log.newest(neighbour, neighbour)),
                (newest - 5000, round - 1)
            );
        }
        edge.hooks.reader.open();
        until_all_have(&mut recorders, flooded, newest).await;
        until_all_have(&mut recorders, neighbour, round).await;
    }
    for recorder in recorders {
        let log = recorder.stop().await;
        for subject in &subjects {
            assert_eq!(audit(&log, subject), []);
        }
    }
}

#[tokio::test]
async fn nat_02_a_reader_stalled_for_too_long_causes_one_gap_at_the_right_place() {
    let nats = NatsServer::with("max_pending: 1MB").await;
    let edge = TestEdge::with_nats(nats, on_loopback, false).await;
    let subjects = three_subjects(&edge);
    let [flooded, neighbour, other] = &subjects;
    let mut recorders = listeners(&edge, &subjects).await;
    edge.publish_numbers(&subjects, 1..=1).await;
    until_all_have(&mut recorders, neighbour, 1).await;
    let lane = format!("tidegate/{}/0", edge.app.node.name);
    assert_eq!(edge.nats.connections(&lane).await, 2, "one for feeds and one for requests");
    edge.hooks.reader.close(0);
    let producer = edge.nats.client().await;
    let mut number = 1;
    // The kernel buffers some data in addition to the server.
    while edge.nats.connections(&lane).await == 2 {
        for _ in 0..1000 {
            number += 1;
            let payload = format!("{{\"n\":{number},\"rest\":\"{}\"}}", "x".repeat(1000));
            producer.publish(flooded.clone(), payload.into()).await.unwrap();
        }
        producer.flush().await.unwrap();
    }
    edge.publish_numbers(std::slice::from_ref(other), 2..=2).await;
    until_all_have(&mut recorders, other, 2).await;
    edge.hooks.reader.open();
    for recorder in &mut recorders {
        recorder.until("a gap", |log| log.gaps(flooded) > 0 && log.gaps(neighbour) > 0).await;
    }
    let slow = |lane: u32| format!("tidegate_nats_slow_consumer_total{{lane=\"{lane}\"}}");
    has(&edge, &[(&slow(0), 1.0), (&slow(1), 0.0)]).await;
    eventually("all subscriptions are back", || async { edge.nats.subscriptions("chat.").await == 3 }).await;
    edge.publish_numbers(std::slice::from_ref(flooded), number + 1..=number + 1).await;
    edge.publish_numbers(std::slice::from_ref(neighbour), 2..=2).await;
    until_all_have(&mut recorders, flooded, number + 1).await;
    until_all_have(&mut recorders, neighbour, 2).await;
    for recorder in recorders {
        let log = recorder.stop().await;
        let gap = Gap { cause: "nats".to_owned(), dropped: None };
        assert_eq!(audit(&log, flooded), vec![gap.clone()]);
        assert_eq!(audit(&log, neighbour), [gap]);
        assert_eq!(audit(&log, other), []);
    }
}
