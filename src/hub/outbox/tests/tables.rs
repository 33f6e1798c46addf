//! Tests of the outbox, case by case.

use std::time::Duration;

use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;

use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::outbox::queue::tests::MOST_KEPT_CAPACITY;
use crate::hub::outbox::queue::tests::MOST_WASTE;
use crate::hub::outbox::tests::model::Heard;
use crate::hub::outbox::tests::model::Model;

const BUFFER: (Kind, Priority, Option<Duration>) = (Kind::Buffer, Priority::Normal, None);
const LATEST: (Kind, Priority, Option<Duration>) = (Kind::Latest, Priority::Normal, None);
const BRIEF: (Kind, Priority, Option<Duration>) =
    (Kind::Buffer, Priority::Normal, Some(Duration::from_millis(50)));
const ROOM: OutboxLimits = OutboxLimits { bytes: 1_000_000, frames: 1000 };

fn frames(frames: usize) -> OutboxLimits {
    OutboxLimits { frames, ..ROOM }
}

/// Drains the outbox. Returns all messages that have arrived, as text.
fn said(model: &mut Model) -> Vec<String> {
    model.drain();
    let words = |heard: Heard| match heard {
        Heard::Reply { priority, number, .. } => format!("reply {priority}.{number}"),
        Heard::Message { subscription, key, number, .. } => format!("{subscription}.{number} of {key}"),
        Heard::Gap { subscription, cause, dropped } => format!("{subscription} {cause} {dropped}"),
    };
    model.heard_all().into_iter().map(words).collect()
}

#[test]
fn a_client_that_keeps_up_gets_everything_in_order() {
    let mut model = Model::new(&[BUFFER, LATEST], ROOM);
    for key in [0, 0, 1] {
        model.push(0, key, 0);
        model.push(1, key, 0);
    }
    assert_eq!(model.outbox.queues.remembered(), None, "nothing is looked up for it");
    let expected = ["0.0 of 0", "1.0 of 0", "0.1 of 0", "1.1 of 0", "0.2 of 1", "1.2 of 1"];
    assert_eq!(said(&mut model), expected);
}

#[test]
fn coalesced_publications_are_one_entry_until_the_client_is_slow() {
    let mut model = Model::new(&[BUFFER], ROOM);
    model.push_all(0, &[(0, 0), (1, 0), (2, 0)]);
    assert_eq!((model.outbox.queues.entries(), model.outbox.queues.frames()), (1, 3));
    let bytes = model.outbox.bytes();
    for cut in 0..=bytes {
        let mut model = Model::new(&[BUFFER], ROOM);
        model.push_all(0, &[(0, 0), (1, 0), (2, 0)]);
        model.flush(cut, 64, 1000);
        assert_eq!((model.wire.len(), model.outbox.bytes()), (cut, bytes - cut));
        model.push(0, 3, 0);
        assert_eq!(said(&mut model), ["0.0 of 0", "0.1 of 1", "0.2 of 2", "0.3 of 3"], "cut at {cut}");
    }
    let mut model = Model::new(&[BUFFER], frames(2));
    model.push_all(0, &[(0, 0), (1, 0), (2, 0)]);
    assert_eq!(said(&mut model), ["0 slow 1", "0.1 of 1", "0.2 of 2"]);
    let mut model = Model::new(&[LATEST], ROOM);
    model.push_all(0, &[(0, 0), (1, 0), (0, 0)]);
    model.flush(0, 64, 1000);
    assert_eq!(said(&mut model), ["0.2 of 0", "0.1 of 1"], "the newest of each key, once the client is slow");
    let mut model = Model::new(&[BRIEF], ROOM);
    model.push_all(0, &[(0, 0), (1, 0)]);
    model.elapse(Duration::from_millis(50));
    assert_eq!(said(&mut model), ["0 expired 2"]);
}

#[test]
fn urgent_frames_overtake_others_but_not_within_a_frame() {
    let low = (Kind::Buffer, Priority::Low, None);
    let mut model = Model::new(&[low, BUFFER], ROOM);
    model.push(0, 0, 50);
    model.push(0, 0, 50);
    model.flush(10, 64, 1000);
    model.push(1, 0, 0);
    assert!(
        model.reply(Priority::Low, 0) && model.reply(Priority::High, 0) && model.reply(Priority::Normal, 0)
    );
    let expected = ["0.0 of 0", "reply 0.0", "1.0 of 0", "reply 1.0", "0.1 of 0", "reply 2.0"];
    assert_eq!(said(&mut model), expected);
}

#[test]
fn class_buffer_drops_the_oldest_and_says_how_many_in_their_place() {
    let mut model = Model::new(&[BUFFER, BUFFER], frames(4));
    for subscription in [0, 1, 0, 0, 0, 1, 0] {
        model.push(subscription, 0, 0);
    }
    assert_eq!(said(&mut model), ["0 slow 2", "1 slow 1", "0.2 of 0", "0.3 of 0", "1.1 of 0", "0.4 of 0"]);
}

#[test]
fn an_unwritten_gap_grows() {
    let mut model = Model::new(&[BUFFER], frames(2));
    for _ in 0..5 {
        model.push(0, 0, 0);
        model.flush(0, 64, 1000);
    }
    assert_eq!(model.outbox.queues.frames(), 2);
    assert_eq!(said(&mut model), ["0 slow 3", "0.3 of 0", "0.4 of 0"]);
}

#[test]
fn class_latest_keeps_the_newest_of_each_key_once_the_client_is_slow() {
    let mut model = Model::new(&[LATEST, LATEST], ROOM);
    for (subscription, key) in [(0, 1), (0, 2), (1, 1), (0, 1)] {
        model.push(subscription, key, 0);
    }
    model.flush(0, 64, 1000);
    assert_eq!(model.take_conflated(), 1, "one that waited when the client became slow");
    for (subscription, key) in [(0, 1), (0, 3), (0, 2)] {
        model.push(subscription, key, 0);
    }
    assert_eq!((model.take_conflated(), model.take_conflated()), (2, 0));
    assert_eq!(
        said(&mut model),
        ["0.3 of 1", "0.5 of 2", "1.0 of 1", "0.4 of 3"],
        "in the place of the older one"
    );
    for _ in 0..2 {
        model.push(0, 1, 0);
    }
    let again = said(&mut model);
    assert_eq!(again[4..], ["0.6 of 1", "0.7 of 1"], "it has caught up");
}

#[test]
fn class_latest_drops_keys_only_when_they_are_too_many() {
    let mut model = Model::new(&[LATEST], frames(2));
    for key in [1, 2, 1, 2, 3] {
        model.push(0, key, 0);
    }
    assert_eq!(said(&mut model), ["0 slow 1", "0.3 of 2", "0.4 of 3"]);
}

#[test]
fn the_least_urgent_are_dropped_first() {
    let high = (Kind::Buffer, Priority::High, None);
    let low = (Kind::Latest, Priority::Low, None);
    let mut model = Model::new(&[high, BUFFER, low], frames(3));
    for subscription in [2, 0, 1, 0, 1, 0] {
        model.push(subscription, 0, 0);
    }
    assert_eq!(said(&mut model), ["0.0 of 0", "0.1 of 0", "0.2 of 0", "1 slow 2", "2 slow 1"]);
}

#[test]
fn expired_publications_become_gaps() {
    let mut model = Model::new(&[BRIEF, BRIEF, BUFFER], ROOM);
    for subscription in [0, 0, 1, 0, 2] {
        model.push(subscription, 0, 0);
    }
    model.elapse(Duration::from_millis(30));
    model.push(0, 0, 0);
    model.elapse(Duration::from_millis(20));
    assert_eq!(said(&mut model), ["0 expired 2", "1 expired 1", "0 expired 1", "2.0 of 0", "0.3 of 0"]);
}

#[test]
fn gaps_with_different_causes_are_not_merged() {
    let mut model = Model::new(&[BRIEF], frames(2));
    for _ in 0..3 {
        model.push(0, 0, 0);
    }
    model.elapse(Duration::from_millis(50));
    model.flush(0, 64, 1000);
    for _ in 0..3 {
        model.push(0, 0, 0);
    }
    assert_eq!(said(&mut model), ["0 slow 2", "0 expired 2", "0.4 of 0", "0.5 of 0"]);
}

#[test]
fn a_flood_of_class_buffer_does_not_drop_class_latest() {
    let mut model = Model::new(&[LATEST, BUFFER], frames(3));
    model.push(0, 0, 0);
    for _ in 0..5 {
        model.push(1, 0, 0);
    }
    assert_eq!(said(&mut model), ["0.0 of 0", "1 slow 3", "1.3 of 0", "1.4 of 0"]);
}

#[test]
fn one_frame_is_taken_even_if_it_is_larger_than_the_limit() {
    let mut model = Model::new(&[BUFFER], OutboxLimits { bytes: 10, frames: 10 });
    model.push(0, 0, 100);
    assert_eq!(said(&mut model), ["0.0 of 0"]);
    assert!(model.reply(Priority::Normal, 100));
    assert_eq!(said(&mut model)[1..], ["reply 1.0"]);
    model.push(0, 0, 100);
    model.push(0, 0, 100);
    assert_eq!(said(&mut model)[2..], ["0 slow 1", "0.2 of 0"]);
}

/// PROTOCOL.md: "Replies are never dropped"
#[test]
fn replies_displace_publications_until_only_replies_are_left() {
    let mut model = Model::new(&[BUFFER], frames(3));
    model.push(0, 0, 0);
    model.push(0, 0, 0);
    for _ in 0..3 {
        assert!(model.reply(Priority::Low, 0));
    }
    assert!(!model.reply(Priority::Low, 0), "a client that takes not even replies is given up");
    assert_eq!(said(&mut model), ["0 slow 2", "reply 2.0", "reply 2.1", "reply 2.2", "reply 2.3"]);
}

#[test]
fn memory_is_given_back_when_all_is_written() {
    let mut model = Model::new(&[BUFFER, LATEST, (Kind::Buffer, Priority::Low, None)], frames(500));
    for round in 0..2000 {
        model.push(round % 3, u64::try_from(round).unwrap(), 0);
    }
    model.flush(1000, 64, 1000);
    let before = model.outbox.queues.room();
    model.drain();
    let queues = &model.outbox.queues;
    assert!(
        before > MOST_KEPT_CAPACITY && queues.room() <= MOST_KEPT_CAPACITY,
        "{before}, {}",
        queues.room()
    );
    assert_eq!((queues.entries(), queues.bytes(), queues.remembered()), (0, 0, None));
    model.push(0, 0, 0);
    model.outbox.free_capacity();
    assert_eq!(model.outbox.queues.entries(), 1, "not while something waits");
    model.drain();
    model.outbox.free_capacity();
    assert_eq!(model.outbox.queues.room(), 0);
}

#[test]
fn vacant_entries_behind_a_reply_are_swept() {
    let mut model = Model::new(&[BUFFER, BUFFER], frames(10));
    assert!(model.reply(Priority::Normal, 0));
    for round in 0..20_000 {
        model.push(round % 2, 0, 0);
        assert!(model.outbox.queues.entries() <= 10 + MOST_WASTE);
    }
    assert_eq!(said(&mut model)[..3], ["reply 1.0", "0 slow 9996", "1 slow 9995"]);
}

#[test]
fn the_index_forgets_keys_even_for_a_client_that_never_catches_up() {
    let mut model = Model::new(&[LATEST], frames(10));
    for key in 0..20_000 {
        model.push(0, key, 0);
        model.flush(30, 1, 1000);
        let remembered = model.outbox.queues.remembered().unwrap_or_default();
        assert!(remembered <= MOST_WASTE, "{remembered} keys for ten frames");
    }
    assert!(model.outbox.queues.remembered().is_some(), "the client has been slow all the time");
}

#[test]
fn an_urgent_publication_overtakes_others_of_its_channel() {
    let mut model = Model::new(&[BUFFER], ROOM);
    for (key, priority) in
        [Priority::Normal, Priority::Low, Priority::High, Priority::Normal].iter().enumerate()
    {
        model.push_with(0, *priority, &[(u64::try_from(key).unwrap(), 0)]);
    }
    assert_eq!(said(&mut model), ["0.2 of 2", "0.0 of 0", "0.3 of 3", "0.1 of 1"]);
}

#[test]
fn each_priority_of_a_channel_has_its_own_gap_in_its_place() {
    let mut model = Model::new(&[BUFFER], frames(3));
    for priority in [Priority::Normal, Priority::High, Priority::Normal, Priority::High, Priority::High] {
        model.push_with(0, priority, &[(0, 0)]);
    }
    assert_eq!(said(&mut model), ["0.1 of 0", "0.3 of 0", "0.4 of 0", "0 slow 2"]);
    let mut model = Model::new(&[BUFFER], frames(2));
    for priority in [Priority::High, Priority::High, Priority::Low, Priority::High] {
        model.push_with(0, priority, &[(0, 0)]);
    }
    assert_eq!(said(&mut model), ["0 slow 1", "0.1 of 0", "0.3 of 0", "0 slow 1"]);
}

#[test]
fn a_dropped_publication_is_never_counted_in_a_gap_behind_it() {
    for class in [(Kind::Buffer, Priority::High, None), (Kind::Latest, Priority::High, None)] {
        let mut model = Model::new(&[class], frames(3));
        model.push_with(0, Priority::Normal, &[(0, 0), (1, 0), (2, 0)]);
        assert!(model.reply(Priority::High, 0), "it moves the publications to the queue of their class");
        model.push_with(0, Priority::Normal, &[(3, 0)]);
        assert!(model.reply(Priority::High, 0), "it moves the gap behind them");
        let expected = ["0 slow 1", "0 slow 1", "0.2 of 2", "reply 0.0", "0 slow 1", "reply 0.1"];
        assert_eq!(said(&mut model), expected, "{:?}", class.0);
    }
}

#[test]
fn no_older_publication_of_a_key_follows_a_newer_one_of_another_priority() {
    let latest = [(1, 0)];
    for is_slow in [false, true] {
        let mut model = Model::new(&[LATEST], ROOM);
        model.push_with(0, Priority::Low, &[(2, 0), (1, 0)]);
        if is_slow {
            model.flush(0, 64, 1000);
        }
        model.push_with(0, Priority::High, &latest);
        model.push_with(0, Priority::Normal, &[(3, 0)]);
        assert_eq!(said(&mut model), ["0.2 of 1", "0.3 of 3", "0.0 of 2"], "slow: {is_slow}");
        model.push_with(0, Priority::High, &latest);
        model.push_with(0, Priority::Low, &latest);
        model.push_with(0, Priority::High, &latest);
        let again = said(&mut model);
        assert_eq!(again[3..].last().map(String::as_str), Some("0.6 of 1"), "slow: {is_slow}");
    }
    let mut model = Model::new(&[LATEST], ROOM);
    model.push_all(0, &[(1, 0), (2, 0)]);
    model.push_with(0, Priority::High, &[(1, 0), (2, 0)]);
    assert_eq!(said(&mut model), ["0.2 of 1", "0.3 of 2"], "in one piece too");
}

#[test]
fn publications_do_not_cross_messages_about_their_channel() {
    let mut model = Model::new(&[BUFFER], ROOM);
    model.push_with(0, Priority::Low, &[(0, 0)]);
    assert!(model.reply(Priority::Normal, 0));
    for priority in [Priority::High, Priority::Normal, Priority::High] {
        model.push_with(0, priority, &[(0, 0)]);
    }
    assert_eq!(
        said(&mut model),
        ["0.0 of 0", "reply 1.0", "0.1 of 0", "0.2 of 0", "0.3 of 0"],
        "a reply about a channel comes after what is older, and before what is newer"
    );
    model.push_with(0, Priority::Normal, &[(0, 0)]);
    model.push_with(0, Priority::High, &[(0, 0)]);
    assert_eq!(said(&mut model)[5..], ["0.5 of 0", "0.4 of 0"], "nothing is in the way any more");
}

#[test]
fn a_key_that_changes_its_priority_for_ever_leaves_no_waste() {
    let mut model = Model::new(&[LATEST, BUFFER], frames(10));
    assert!(model.reply(Priority::High, 0));
    model.push(1, 0, 0);
    model.flush(0, 64, 1000);
    for round in 0..20_000 {
        model.push_with(0, Priority::ALL[round % 3], &[(0, 0)]);
        assert!(model.outbox.queues.entries() <= 10 + 3 * MOST_WASTE);
    }
}

#[test]
fn of_last_values_without_room_the_newest_come_behind_one_gap() {
    for kind in [Kind::Buffer, Kind::Latest] {
        for priority in Priority::ALL {
            let mut model = Model::new(&[(kind, priority, None)], frames(4));
            let values: Vec<_> = (0..8000).map(|key| (key, 0)).collect();
            assert!(model.join(0, &values), "the client stays connected");
            let confirmation = format!("reply {}.0", priority as usize);
            let expected = ["0 slow 7997", "0.7997 of 7997", "0.7998 of 7998", "0.7999 of 7999"];
            assert_eq!(said(&mut model), [&[&*confirmation][..], &expected].concat());
        }
    }
}

#[test]
fn nothing_that_comes_live_overtakes_last_values_even_after_their_confirmation() {
    for kind in [Kind::Buffer, Kind::Latest] {
        let mut model = Model::new(&[(kind, Priority::Normal, None)], ROOM);
        assert!(model.join(0, &[(1, 0), (2, 0)]));
        let confirmation = model.outbox.bytes() / 3;
        model.flush(confirmation, 1, 1);
        for (key, priority) in [(3, Priority::High), (4, Priority::Normal)] {
            model.push_with(0, priority, &[(key, 0)]);
        }
        let expected = ["reply 1.0", "0.0 of 1", "0.1 of 2", "0.2 of 3", "0.3 of 4"];
        assert_eq!(said(&mut model), expected);
    }
}

#[test]
fn a_live_publication_replaces_the_last_value_of_its_key_for_a_slow_client() {
    for priority in Priority::ALL {
        let mut model = Model::new(&[LATEST], ROOM);
        assert!(model.join(0, &[(1, 0), (2, 0)]));
        model.flush(0, 64, 1000);
        model.push_with(0, priority, &[(1, 0)]);
        assert_eq!(model.outbox.queued_publications().total(), 1, "it counts, and the last value does not");
        let expected: &[&str] = match priority {
            Priority::Low => &["reply 1.0", "0.1 of 2", "0.2 of 1"],
            Priority::High | Priority::Normal => &["reply 1.0", "0.2 of 1", "0.1 of 2"],
        };
        assert_eq!(said(&mut model), expected);
    }
}
