//! The rules one by one, and with any order of requests against lanes that have queues.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SHARDS: usize = 3;

fn subject(number: usize) -> Pattern {
    Pattern::parse(&format!("user.{number}")).unwrap()
}

#[test]
fn the_first_shard_decides_the_lane_until_no_shard_wants_the_subject() {
    let (directory, subject) = (LaneDirectory::default(), subject(1));
    let [one, other] = [1, 2].map(|number| (ShardIndex(number), LaneIndex(number)));
    assert_eq!(directory.lane_of(&subject), None);
    assert_eq!(directory.join(&subject, one.0, one.1), one.1);
    assert_eq!(directory.join(&subject, other.0, other.1), one.1);
    assert_eq!(directory.join(&subject, other.0, other.1), one.1, "twice, for a second format");
    assert!(!directory.release(&subject, one.1));
    assert_eq!(directory.leave(&subject, one.0), Some(one.1));
    assert!(!directory.release(&subject, one.1), "the other shard wants it");
    assert_eq!(directory.leave(&subject, other.0), Some(one.1));
    assert!(directory.release(&subject, other.1), "another lane has nothing to keep");
    assert_eq!(directory.lane_of(&subject), Some(one.1), "it has a feed, which lingers");
    assert!(directory.release(&subject, one.1));
    assert_eq!(directory.leave(&subject, one.0), None);
    assert_eq!(directory.join(&subject, other.0, other.1), other.1);
}

#[test]
fn a_lane_claims_only_what_no_other_lane_has() {
    let (directory, subject) = (LaneDirectory::default(), subject(1));
    assert!(directory.claim(&subject, LaneIndex(0)) && directory.claim(&subject, LaneIndex(0)));
    assert!(!directory.claim(&subject, LaneIndex(1)));
    assert!(directory.release(&subject, LaneIndex(0)) && directory.claim(&subject, LaneIndex(1)));
}

#[test]
fn parts_do_not_keep_the_memory_of_many_subjects() {
    let directory = LaneDirectory::default();
    let capacity = || directory.parts.iter().map(|part| part.lock().unwrap().capacity()).sum::<usize>();
    for number in 0..200_000 {
        directory.claim(&subject(number), LaneIndex(0));
    }
    assert!(capacity() >= 200_000);
    for number in 0..200_000 {
        directory.release(&subject(number), LaneIndex(0));
    }
    assert!(capacity() < 100_000);
}

enum Request {
    Join { shard: usize, subject: usize },
    Leave { shard: usize, subject: usize },
    Last { subject: usize },
}

/// Shards, and lanes with queues and feeds, which behave as the real ones do.
#[derive(Default)]
struct Model {
    directory: LaneDirectory,
    queues: [VecDeque<Request>; SHARDS],
    /// By lane and subject: the shards that get its publications.
    feeds: [BTreeMap<usize, BTreeSet<usize>>; SHARDS],
    /// What each shard wants.
    wanted: [BTreeSet<usize>; SHARDS],
}

impl Model {
    fn toggle(&mut self, shard: usize, number: usize) {
        let subject = subject(number);
        if self.wanted[shard].remove(&number) {
            let lane = self
                .directory
                .leave(&subject, ShardIndex(shard))
                .expect("a subject that is wanted has a lane");
            self.queues[lane.0].push_back(Request::Leave { shard, subject: number });
        } else {
            self.wanted[shard].insert(number);
            let lane = self.directory.join(&subject, ShardIndex(shard), LaneIndex(shard));
            self.queues[lane.0].push_back(Request::Join { shard, subject: number });
        }
    }

    fn ask(&mut self, shard: usize, number: usize) {
        let lane = self.directory.lane_of(&subject(number)).map_or(shard, |lane| lane.0);
        self.queues[lane].push_back(Request::Last { subject: number });
    }

    /// A lane handles its next request.
    fn handle(&mut self, lane: usize) {
        match self.queues[lane].pop_front() {
            Some(Request::Join { shard, subject: number })
                if self.directory.lane_of(&subject(number)) == Some(LaneIndex(lane)) =>
            {
                self.feeds[lane].entry(number).or_default().insert(shard);
            }
            Some(Request::Leave { shard, subject: number }) => match self.feeds[lane].get_mut(&number) {
                Some(shards) => drop(shards.remove(&shard)),
                None => drop(self.directory.release(&subject(number), LaneIndex(lane))),
            },
            Some(Request::Last { subject: number })
                if self.directory.claim(&subject(number), LaneIndex(lane)) =>
            {
                self.feeds[lane].entry(number).or_default();
            }
            // Another lane has the subject.
            Some(Request::Join { .. } | Request::Last { .. }) | None => {}
        }
    }

    /// A lane ends the feeds that no shard wants.
    fn sweep(&mut self, lane: usize) {
        let directory = &self.directory;
        self.feeds[lane].retain(|number, shards| {
            !shards.is_empty() || !directory.release(&subject(*number), LaneIndex(lane))
        });
    }

    /// NATS rejects the subscription of a subject: the lane ends the feed at once, and the shards that had joined leave.
    fn fail(&mut self, lane: usize, number: usize) {
        let Some(shards) = self.feeds[lane].remove(&number) else { return };
        self.directory.release(&subject(number), LaneIndex(lane));
        for shard in shards {
            if self.wanted[shard].contains(&number) {
                self.toggle(shard, number);
            }
        }
    }
}

proptest! {
    /// However requests wait in the queues of lanes: no subject ever has feeds in two lanes, and in the end each shard
    /// gets what it wants, and nothing is left of the others.
    #[test]
    fn each_subject_has_one_lane_and_each_shard_gets_what_it_wants(
        steps in vec((0..7_u8, 0..SHARDS, 0..3_usize), 0..200),
    ) {
        let mut model = Model::default();
        for (step, at, number) in steps {
            match step {
                0 | 1 => model.toggle(at, number),
                2 => model.ask(at, number),
                3 | 4 => model.handle(at),
                5 => model.sweep(at),
                _ => model.fail(at, number),
            }
            for number in 0..3 {
                let lanes = model.feeds.iter().filter(|feeds| feeds.contains_key(&number)).count();
                prop_assert!(lanes <= 1, "{number} has feeds in {lanes} lanes");
            }
        }
        for lane in 0..SHARDS {
            while !model.queues[lane].is_empty() {
                model.handle(lane);
            }
            model.sweep(lane);
        }
        for number in 0..3 {
            let wanted: BTreeSet<_> = (0..SHARDS).filter(|shard| model.wanted[*shard].contains(&number)).collect();
            let got: BTreeSet<_> =
                model.feeds.iter().filter_map(|feeds| feeds.get(&number)).flatten().copied().collect();
            prop_assert_eq!(&got, &wanted);
            let assigned = model.directory.lane_of(&subject(number)).is_some();
            prop_assert_eq!(assigned, !wanted.is_empty());
        }
    }
}
