//! Tests that the tracker finds missing, repeated and out-of-order publications, and counts deliveries exactly.

use std::collections::BTreeSet;
use std::collections::HashSet;

use super::*;
use crate::inflate_cache::tests::deflated;
use crate::payload;

fn tracker(guarantee: Guarantee, sockets: usize, subjects: usize, per_socket: usize) -> DeliveryTracker {
    DeliveryTracker::new(Shape { sockets, subjects, per_socket }, guarantee).unwrap()
}

fn send(tracker: &mut DeliveryTracker, count: usize) {
    for _ in 0..count {
        tracker.record_sent(Instant::now());
    }
}

fn receive(tracker: &mut DeliveryTracker, client: usize, number: u64) {
    tracker.record(client, ClientEvent::Publication(number), Instant::now(), None);
}

#[test]
fn all_subjects_have_about_the_same_number_of_clients() {
    let shape = Shape { sockets: 500, subjects: 1000, per_socket: 10 };
    assert_eq!(shape.subscribers(), vec![5; 1000]);
    let sets: HashSet<_> = (0..500).map(|client| BTreeSet::from_iter(shape.subjects_of(client))).collect();
    assert!(sets.iter().all(|set| set.len() == 10), "no client has a subject twice");
    assert!(sets.len() > 400, "{} different sets", sets.len());
    let alone = Shape { sockets: 7, subjects: 7, per_socket: 1 };
    assert_eq!(alone.subscribers(), [1; 7]);
    let one = Shape { sockets: 3, subjects: 1, per_socket: 1 };
    assert_eq!(one.subscribers(), [3]);
}

#[test]
fn the_subjects_of_a_client_are_not_neighbours() {
    let shape = Shape { sockets: 500, subjects: 1000, per_socket: 10 };
    for client in 0..500 {
        let mut wanted = shape.subjects_of(client);
        wanted.sort_unstable();
        assert!(wanted.windows(2).all(|pair| pair[1] - pair[0] > 10), "{client}: {wanted:?}");
    }
}

#[test]
fn a_publication_is_complete_when_all_subscribers_have_received_it() {
    let mut tracker = tracker(Guarantee::All, 2, 1, 1);
    assert_eq!((tracker.record_sent(Instant::now()), tracker.record_sent(Instant::now())), (0, 1));
    receive(&mut tracker, 0, 0);
    receive(&mut tracker, 0, 1);
    assert_eq!((tracker.in_flight(), tracker.deliveries), (2, 2));
    receive(&mut tracker, 1, 0);
    assert_eq!(tracker.in_flight(), 1);
    assert!(!tracker.is_settled(2));
    receive(&mut tracker, 1, 1);
    assert_eq!(
        (tracker.in_flight(), tracker.deliveries, tracker.expected_deliveries(2), tracker.latency.len()),
        (0, 4, 4, 4)
    );
    assert!(tracker.is_settled(2));
    tracker.check_faults().unwrap();
}

#[test]
fn subjects_may_overtake_each_other() {
    let mut tracker = tracker(Guarantee::All, 4, 4, 2);
    send(&mut tracker, 4);
    let mut left: Vec<_> = (0..4)
        .flat_map(|client| tracker.shape.subjects_of(client).into_iter().map(move |n| (client, n)))
        .collect();
    // Deliver the last publication first.
    left.sort_by_key(|(_, number)| 4 - number);
    let last = left.pop().unwrap();
    for (client, number) in left {
        receive(&mut tracker, client, number as u64);
    }
    assert_eq!((tracker.complete, tracker.in_flight()), (3, 1));
    receive(&mut tracker, last.0, last.1 as u64);
    assert_eq!((tracker.in_flight(), tracker.expected_deliveries(4)), (0, 8));
    tracker.check_faults().unwrap();
}

#[test]
fn missing_repeated_and_unexpected_publications_are_faults() {
    for numbers in [&[0, 2][..], &[0, 0], &[1]] {
        let mut tracker = tracker(Guarantee::All, 1, 1, 1);
        send(&mut tracker, 3);
        numbers.iter().for_each(|&number| receive(&mut tracker, 0, number));
        assert!(tracker.check_faults().is_err(), "{numbers:?}");
    }
    let mut other = tracker(Guarantee::All, 2, 2, 1);
    send(&mut other, 2);
    let foreign = other.shape.subjects_of(1)[0];
    receive(&mut other, 0, foreign as u64);
    assert!(other.check_faults().unwrap_err().to_string().contains("does not subscribe to"));
    let mut early = tracker(Guarantee::All, 1, 1, 1);
    receive(&mut early, 0, 0);
    assert!(early.check_faults().unwrap_err().to_string().contains("not in flight"));
}

#[test]
fn a_gap_and_a_closed_connection_are_faults() {
    for event in [ClientEvent::Gap { cause: "slow", dropped: None }, ClientEvent::Ended("why")] {
        let mut tracker = tracker(Guarantee::Newest, 1, 1, 1);
        tracker.record(0, event, Instant::now(), None);
        assert!(tracker.check_faults().is_err(), "{event:?}");
    }
}

#[test]
fn with_the_newest_guaranteed_publications_may_be_missing_but_not_reordered() {
    let mut tracker = tracker(Guarantee::Newest, 1, 2, 2);
    let start = Instant::now();
    let due = |_| start;
    let mut receive =
        |number| tracker.record(0, ClientEvent::Publication(number), Instant::now(), Some(&due));
    receive(0);
    receive(4);
    receive(3);
    assert!(!tracker.is_settled(6), "5 is the newest of the second subject");
    assert!(tracker.is_settled(5) && !tracker.is_settled(7));
    tracker.check_faults().unwrap();
    tracker.record(0, ClientEvent::Publication(2), Instant::now(), Some(&due));
    assert!(tracker.check_faults().is_err());
}

#[test]
fn a_compressed_publication_is_checked_like_any_other() {
    let message = payload::payload(1000);
    let message = &deflated(message.as_bytes());
    let mut tracker = tracker(Guarantee::All, 1, 1, 1);
    tracker.record_sent(Instant::now());
    tracker.record(0, ClientEvent::Compressed(message), Instant::now(), None);
    assert_eq!((tracker.compressed, tracker.in_flight()), (1, 0));
    tracker.check_faults().unwrap();
    tracker.record(0, ClientEvent::Compressed(message), Instant::now(), None);
    assert!(tracker.check_faults().is_err(), "it was number 0 again");
}

#[test]
fn the_last_number_of_a_subject_is_before_the_next_number() {
    for next in 0..20_u64 {
        for subject in 0..3 {
            let expected = (0..next).rev().find(|number| number % 3 == subject);
            assert_eq!(last_number(next, subject, 3), expected);
        }
    }
}

#[test]
fn expected_deliveries_are_the_sum_over_publications() {
    // Seven clients and three subjects: one subject has one more subscriber.
    let tracker = tracker(Guarantee::All, 7, 3, 1);
    let mut sum = 0;
    for next in 0..10 {
        assert_eq!(tracker.expected_deliveries(next), sum);
        sum += u64::from(tracker.subscribers[(next % 3) as usize]);
    }
    assert_eq!(tracker.expected_deliveries(3), 7);
}
