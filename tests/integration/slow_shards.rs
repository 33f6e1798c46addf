//! A shard that does not empty its inbox: only its own clients miss messages, and their gaps have the exact number.

use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::ledger::audit;
use crate::support::recorder::Recorder;

/// Room for two full batches of a lane. An empty inbox takes a batch of any size.
const INBOX_BYTES: usize = 100_000;
const FLOOD: u64 = 5000;

/// A node with small inboxes, and on each shard a client that subscribes to two subjects of lane 0 and one of lane 1.
async fn listeners() -> (TestEdge, Vec<Recorder>, [String; 3]) {
    let edge = TestEdge::with(|config| config.limits.inbox_bytes = INBOX_BYTES).await;
    let subject = |lane, number| edge.subjects_of(lane, "chat").nth(number).unwrap();
    let subjects = [subject(0, 0), subject(0, 1), subject(1, 0)];
    let recorders = Recorder::on_each_shard(&edge, &subjects).await;
    (edge, recorders, subjects)
}

async fn has(recorder: &mut Recorder, subject: &str, number: u64) {
    recorder.until("the newest message", |log| log.newest(subject, subject) == number).await;
}

#[tokio::test]
async fn nat_08_a_stalled_shard_causes_an_exact_gap_for_its_own_clients_only() {
    let (edge, mut recorders, subjects) = listeners().await;
    let [flooded, neighbour, other] = &subjects;
    edge.publish_numbers(&subjects, 1..=1).await;
    for recorder in &mut recorders {
        for subject in &subjects {
            has(recorder, subject, 1).await;
        }
    }
    edge.hooks.pump.close(1);
    edge.publish_numbers(std::slice::from_ref(flooded), 2..=FLOOD).await;
    edge.publish_numbers(&[neighbour.clone(), other.clone()], 2..=3).await;
    has(&mut recorders[0], flooded, FLOOD).await;
    for subject in [neighbour, other] {
        has(&mut recorders[0], subject, 3).await;
    }
    has(&mut recorders[1], other, 3).await;
    let waiting = edge.app.inboxes[1].bytes();
    assert!((1..=INBOX_BYTES).contains(&waiting), "{waiting}");
    assert!(recorders[1].so_far().newest(flooded, flooded) < FLOOD);
    edge.hooks.pump.open();
    recorders[1].until("the gap, although no message follows it", |log| log.gaps(flooded) > 0).await;
    edge.publish_numbers(std::slice::from_ref(flooded), FLOOD + 1..=FLOOD + 1).await;
    edge.publish_numbers(&[neighbour.clone(), other.clone()], 4..=4).await;
    for recorder in &mut recorders {
        has(recorder, flooded, FLOOD + 1).await;
        has(recorder, neighbour, 4).await;
        has(recorder, other, 4).await;
    }
    eventually("an empty inbox", || async { edge.app.inboxes[1].bytes() == 0 }).await;
    let mut logs = Vec::new();
    for recorder in recorders {
        logs.push(recorder.stop().await);
    }
    for subject in [flooded, neighbour] {
        assert_eq!(audit(&logs[0], subject), []);
    }
    let gaps = audit(&logs[1], flooded);
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.cause == "overflow" && gap.dropped.is_some()));
    audit(&logs[1], neighbour);
    for log in &logs {
        assert_eq!(audit(log, other), []);
    }
}

#[tokio::test]
async fn a_backlog_of_a_shard_does_not_overflow_the_outbox_of_a_fast_client() {
    const OUTBOX_FRAMES: usize = 64;
    let edge = TestEdge::with(|config| config.limits.outbox_frames = OUTBOX_FRAMES).await;
    let subjects = [0, 1].map(|number| edge.subjects_of(0, "chat").nth(number).unwrap());
    let mut recorders = Recorder::on_each_shard(&edge, &subjects).await;
    edge.hooks.pump.close(1);
    let numbers = 5 * OUTBOX_FRAMES as u64;
    // One by one: together they would be coalesced.
    for number in 1..=numbers {
        edge.publish_numbers(&subjects, number..=number).await;
    }
    for subject in &subjects {
        has(&mut recorders[0], subject, numbers).await;
    }
    edge.hooks.pump.open();
    for mut recorder in recorders {
        for subject in &subjects {
            has(&mut recorder, subject, numbers).await;
        }
        let log = recorder.stop().await;
        for subject in &subjects {
            assert_eq!(audit(&log, subject), []);
        }
    }
}
