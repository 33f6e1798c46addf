//! What is missing, repeated or out of order is found; what is complete is counted exactly.

use std::collections::BTreeSet;
use std::collections::HashSet;

use super::*;
use crate::inflated::tests::deflated;
use crate::payload;

fn flow(promise: Promise, sockets: usize, subjects: usize, per_socket: usize) -> Flow {
    Flow::new(Shape { sockets, subjects, per_socket }, promise).unwrap()
}

fn depart(flow: &mut Flow, count: usize) {
    for _ in 0..count {
        flow.depart(Instant::now());
    }
}

fn hear(flow: &mut Flow, client: usize, number: u64) {
    flow.hear(client, Heard::Publication(number), Instant::now(), None);
}

#[test]
fn every_subject_has_its_share_of_the_clients() {
    let shape = Shape { sockets: 500, subjects: 1000, per_socket: 10 };
    assert_eq!(shape.listeners(), vec![5; 1000]);
    let sets: HashSet<_> = (0..500).map(|client| BTreeSet::from_iter(shape.wanted(client))).collect();
    assert!(sets.iter().all(|set| set.len() == 10), "no client has a subject twice");
    assert!(sets.len() > 400, "{} different sets", sets.len());
    let alone = Shape { sockets: 7, subjects: 7, per_socket: 1 };
    assert_eq!(alone.listeners(), [1; 7]);
    let one = Shape { sockets: 3, subjects: 1, per_socket: 1 };
    assert_eq!(one.listeners(), [3]);
}

#[test]
fn the_subjects_of_a_client_do_not_come_in_a_row() {
    let shape = Shape { sockets: 500, subjects: 1000, per_socket: 10 };
    for client in 0..500 {
        let mut wanted = shape.wanted(client);
        wanted.sort_unstable();
        assert!(wanted.windows(2).all(|pair| pair[1] - pair[0] > 10), "{client}: {wanted:?}");
    }
}

#[test]
fn a_publication_is_complete_when_all_have_it() {
    let mut flow = flow(Promise::All, 2, 1, 1);
    assert_eq!((flow.depart(Instant::now()), flow.depart(Instant::now())), (0, 1));
    hear(&mut flow, 0, 0);
    hear(&mut flow, 0, 1);
    assert_eq!((flow.in_flight(), flow.deliveries), (2, 2));
    hear(&mut flow, 1, 0);
    assert_eq!(flow.in_flight(), 1);
    assert!(!flow.is_settled(2));
    hear(&mut flow, 1, 1);
    assert_eq!((flow.in_flight(), flow.deliveries, flow.owed(2), flow.latency.len()), (0, 4, 4, 4));
    assert!(flow.is_settled(2));
    flow.check_faults().unwrap();
}

#[test]
fn subjects_may_overtake_each_other() {
    let mut flow = flow(Promise::All, 4, 4, 2);
    depart(&mut flow, 4);
    let mut left: Vec<_> =
        (0..4).flat_map(|client| flow.shape.wanted(client).into_iter().map(move |n| (client, n))).collect();
    // The last publication first.
    left.sort_by_key(|(_, number)| 4 - number);
    let last = left.pop().unwrap();
    for (client, number) in left {
        hear(&mut flow, client, number as u64);
    }
    assert_eq!((flow.complete, flow.in_flight()), (3, 1));
    hear(&mut flow, last.0, last.1 as u64);
    assert_eq!((flow.in_flight(), flow.owed(4)), (0, 8));
    flow.check_faults().unwrap();
}

#[test]
fn what_is_missing_repeated_or_foreign_is_a_fault() {
    for numbers in [&[0, 2][..], &[0, 0], &[1]] {
        let mut flow = flow(Promise::All, 1, 1, 1);
        depart(&mut flow, 3);
        numbers.iter().for_each(|&number| hear(&mut flow, 0, number));
        assert!(flow.check_faults().is_err(), "{numbers:?}");
    }
    let mut other = flow(Promise::All, 2, 2, 1);
    depart(&mut other, 2);
    let foreign = other.shape.wanted(1)[0];
    hear(&mut other, 0, foreign as u64);
    assert!(other.check_faults().unwrap_err().to_string().contains("not asked for"));
    let mut early = flow(Promise::All, 1, 1, 1);
    hear(&mut early, 0, 0);
    assert!(early.check_faults().unwrap_err().to_string().contains("not on its way"));
}

#[test]
fn a_gap_and_an_end_are_faults() {
    for heard in [Heard::Gap { cause: "slow", dropped: None }, Heard::Ended("why")] {
        let mut flow = flow(Promise::Newest, 1, 1, 1);
        flow.hear(0, heard, Instant::now(), None);
        assert!(flow.check_faults().is_err(), "{heard:?}");
    }
}

#[test]
fn where_the_newest_counts_some_may_be_missing_and_none_may_be_older() {
    let mut flow = flow(Promise::Newest, 1, 2, 2);
    let start = Instant::now();
    let due = |_| start;
    let mut hear = |number| flow.hear(0, Heard::Publication(number), Instant::now(), Some(&due));
    hear(0);
    hear(4);
    hear(3);
    assert!(!flow.is_settled(6), "5 is the newest of the second subject");
    assert!(flow.is_settled(5) && !flow.is_settled(7));
    flow.check_faults().unwrap();
    flow.hear(0, Heard::Publication(2), Instant::now(), Some(&due));
    assert!(flow.check_faults().is_err());
}

#[test]
fn a_compressed_publication_is_checked_as_any_other() {
    let message = payload::payload(1000);
    let message = &deflated(message.as_bytes());
    let mut flow = flow(Promise::All, 1, 1, 1);
    flow.depart(Instant::now());
    flow.hear(0, Heard::Compressed(message), Instant::now(), None);
    assert_eq!((flow.compressed, flow.in_flight()), (1, 0));
    flow.check_faults().unwrap();
    flow.hear(0, Heard::Compressed(message), Instant::now(), None);
    assert!(flow.check_faults().is_err(), "it was number 0 again");
}

#[test]
fn the_last_of_a_subject_is_before_the_next_of_all() {
    for next in 0..20_u64 {
        for subject in 0..3 {
            let expected = (0..next).rev().find(|number| number % 3 == subject);
            assert_eq!(last(next, subject, 3), expected);
        }
    }
}

#[test]
fn what_is_owed_is_the_sum_over_publications() {
    // Seven choices of three subjects: one has a listener more.
    let flow = flow(Promise::All, 7, 3, 1);
    let mut sum = 0;
    for next in 0..10 {
        assert_eq!(flow.owed(next), sum);
        sum += u64::from(flow.listeners[(next % 3) as usize]);
    }
    assert_eq!(flow.owed(3), 7);
}
