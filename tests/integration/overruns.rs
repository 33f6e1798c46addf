//! Messages come faster than the node reads them from NATS: whoever misses some is told where, and nobody else is.

use crate::support::edge::TestEdge;
use crate::support::ledger::audit;
use crate::support::recorder::Recorder;

/// A client on each shard that listens to all of these.
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

#[tokio::test]
async fn nat_02_whoever_reads_a_flooded_subject_hears_where_it_lost_and_nobody_else_hears_a_gap() {
    let edge = TestEdge::with(|config| config.nats.subscription_capacity = 256).await;
    let subject = |lane, number| edge.subjects_of(lane, "chat").nth(number).unwrap();
    let (flooded, beside, other) = (subject(0, 0), subject(0, 1), subject(1, 0));
    let subjects = [flooded.clone(), beside.clone(), other.clone()];
    let mut recorders = listeners(&edge, &subjects).await;
    edge.publish_numbers(&subjects, 1..=1).await;
    for subject in &subjects {
        until_all_have(&mut recorders, subject, 1).await;
    }
    for round in 1..=3 {
        let heard = recorders.iter().map(|recorder| recorder.so_far().gaps(&flooded)).max().unwrap();
        edge.hooks.reader.close(0);
        let newest = round * 5000;
        edge.publish_numbers(std::slice::from_ref(&flooded), newest - 4998..=newest).await;
        // It comes behind the flood, so the flood has been read when it is here.
        edge.publish_numbers(&[beside.clone(), other.clone()], round + 1..=round + 1).await;
        until_all_have(&mut recorders, &beside, round + 1).await;
        edge.hooks.reader.open();
        for recorder in &mut recorders {
            recorder.until("a gap", |log| log.gaps(&flooded) > heard).await;
        }
        edge.publish_numbers(std::slice::from_ref(&flooded), newest + 1..=newest + 1).await;
        until_all_have(&mut recorders, &flooded, newest + 1).await;
        until_all_have(&mut recorders, &other, round + 1).await;
    }
    for recorder in recorders {
        let log = recorder.stop().await;
        let gaps = audit(&log, &flooded);
        assert!(gaps.len() >= 3 && gaps.iter().all(|gap| gap.cause == "slow_consumer"), "{gaps:?}");
        assert_eq!(audit(&log, &beside), []);
        assert_eq!(audit(&log, &other), []);
    }
}
