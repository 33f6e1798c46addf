//! For any sequence of pushes, replies and writes: each publication is delivered, or a gap is in its place.

use std::collections::HashMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::outbox::tests::model::Heard;
use crate::hub::outbox::tests::model::LARGEST;
use crate::hub::outbox::tests::model::Model;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;

const MAX_AGE: Duration = Duration::from_millis(50);

const CLASSES: [(Kind, Priority, Option<Duration>); 7] = [
    (Kind::Buffer, Priority::Normal, None),
    (Kind::Buffer, Priority::Normal, Some(MAX_AGE)),
    (Kind::Latest, Priority::Normal, None),
    (Kind::Buffer, Priority::High, None),
    (Kind::Latest, Priority::Low, None),
    (Kind::Latest, Priority::Low, Some(MAX_AGE)),
    (Kind::Buffer, Priority::Low, None),
];

#[derive(Clone, Debug)]
enum Happening {
    Push { subscription: usize, priority: Option<Priority>, publications: Vec<(u64, usize)> },
    Join { subscription: usize, values: Vec<usize> },
    Reply { priority: Priority, padding: usize },
    Flush { budget: usize, max_frames: usize, max_bytes: usize },
    Elapse(u64),
}

/// Most publications have the priority of their class.
fn priority() -> impl Strategy<Value = Option<Priority>> {
    prop_oneof![3 => Just(None), 1 => select(&Priority::ALL[..]).prop_map(Some)]
}

fn happening() -> impl Strategy<Value = Happening> {
    let flush = (prop_oneof![Just(0_usize), 1..40_usize, 1..2000_usize], 1..6_usize, 1..500_usize);
    prop_oneof![
        12 => (
            0..CLASSES.len(),
            priority(),
            prop_oneof![vec((0..3_u64, 0..100_usize), 1), vec((0..3_u64, 0..100_usize), 2..5)],
        )
            .prop_map(|(subscription, priority, publications)| {
                Happening::Push { subscription, priority, publications }
            }),
        2 => (0..CLASSES.len(), vec(0..100_usize, 0..6))
            .prop_map(|(subscription, values)| Happening::Join { subscription, values }),
        1 => (select(&Priority::ALL[..]), 0..50_usize)
            .prop_map(|(priority, padding)| Happening::Reply { priority, padding }),
        5 => flush.prop_map(|(budget, max_frames, max_bytes)| Happening::Flush { budget, max_frames, max_bytes }),
        1 => (0..40_u64).prop_map(Happening::Elapse),
    ]
}

/// Plays the sequence, and then drains the outbox. `None` if the outbox asked to end the connection.
fn play(happenings: &[Happening], limits: OutboxLimits) -> Option<Model> {
    let mut model = Model::new(&CLASSES, limits);
    for happening in happenings {
        match happening {
            Happening::Push { subscription, priority, publications } => {
                let priority = priority.unwrap_or(model.classes[*subscription].priority);
                model.push_with(*subscription, priority, publications);
            }
            // A subscription joins before it gets anything else. Each last value has another key.
            Happening::Join { subscription, .. } if model.pushed[*subscription] > 0 => {}
            Happening::Join { subscription, values } => {
                let values: Vec<_> = (0..).zip(values.iter().copied()).collect();
                if !model.join(*subscription, &values) {
                    check_given_up_rightly(&model, limits);
                    return None;
                }
            }
            Happening::Reply { priority, padding } => {
                if !model.reply(*priority, *padding) {
                    check_given_up_rightly(&model, limits);
                    return None;
                }
            }
            Happening::Flush { budget, max_frames, max_bytes } => {
                model.flush(*budget, *max_frames, *max_bytes)
            }
            Happening::Elapse(millis) => model.elapse(Duration::from_millis(*millis)),
        }
        check_bounds(&model, limits);
    }
    model.drain();
    Some(model)
}

/// The outbox holds at most the limit and one frame, which may be partly written or larger than the limit.
fn check_bounds(model: &Model, limits: OutboxLimits) {
    assert!(model.outbox.bytes() <= limits.bytes + LARGEST, "{} bytes", model.outbox.bytes());
    let frames = model.outbox.queues.frames();
    assert!(frames <= limits.frames.max(1), "{frames} frames");
}

/// Ending the connection is right only if the replies do not fit.
fn check_given_up_rightly(model: &Model, limits: OutboxLimits) {
    let (heard, _) = model.heard();
    let written = heard.iter().filter(|heard| matches!(heard, Heard::Reply { .. })).count() as u64;
    let waiting = model.replied.iter().sum::<u64>() - written;
    let bytes = model.outbox.bytes();
    assert!(waiting > 1, "one reply always fits");
    assert!(
        waiting > limits.frames as u64 || bytes > limits.bytes,
        "{waiting} replies of {bytes} bytes do fit"
    );
}

/// All replies arrive, in order within their priority.
fn check_replies(model: &Model, heard: &[Heard]) {
    let mut next = [0; 3];
    for heard in heard {
        if let Heard::Reply { priority, number, .. } = heard {
            assert_eq!(*number, next[*priority], "the next reply of priority {priority}");
            next[*priority] += 1;
        }
    }
    assert_eq!(next, model.replied, "all replies come");
}

/// Class `buffer`: each publication arrives, or is counted by a gap before the next one of its priority.
fn check_buffer(model: &Model, heard: &[Heard], subscription: usize) {
    let (mut next, mut skipped, mut announced) = ([0; 3], 0, 0);
    for heard in heard {
        match heard {
            Heard::Message { subscription: whose, priority, nth, .. } if *whose == subscription => {
                assert!(*nth >= next[*priority], "{nth} of priority {priority} after the next one");
                skipped += *nth - next[*priority];
                assert!(skipped <= announced, "subscription {subscription} misses more than it was told");
                next[*priority] = *nth + 1;
            }
            Heard::Gap { subscription: whose, dropped, cause } if *whose == subscription => {
                assert!(*dropped > 0, "an empty gap");
                assert!(
                    cause == "slow" || model.classes[subscription].max_age.is_some(),
                    "nothing expires here"
                );
                announced += dropped;
            }
            Heard::Message { .. } | Heard::Gap { .. } | Heard::Reply { .. } => {}
        }
    }
    let rest: u64 = model.by_priority[subscription].iter().zip(next).map(|(all, next)| all - next).sum();
    assert_eq!(skipped + rest, announced, "all of subscription {subscription} came or were announced");
}

/// Class `latest`: no older publication of a key after a newer one; the last of each key arrives, or a gap follows.
fn check_latest(model: &Model, heard: &[Heard], subscription: usize) {
    let mut seen: HashMap<u64, (u64, usize)> = HashMap::new();
    let (mut came, mut dropped, mut last_gap) = (0, 0, None);
    for (at, heard) in heard.iter().enumerate() {
        match heard {
            Heard::Message { subscription: whose, key, number, .. } if *whose == subscription => {
                came += 1;
                let older = seen.insert(*key, (*number, at));
                assert!(
                    older.is_none_or(|(older, _)| older < *number),
                    "{number} of key {key} after {older:?}"
                );
            }
            Heard::Gap { subscription: whose, dropped: count, .. } if *whose == subscription => {
                dropped += count;
                last_gap = Some(at);
            }
            Heard::Message { .. } | Heard::Gap { .. } | Heard::Reply { .. } => {}
        }
    }
    assert!(came + dropped <= model.pushed[subscription], "more came or were announced than there were");
    let mut missing = 0;
    for (key, last) in &model.last[subscription] {
        let newest = seen.get(key);
        if newest.is_none_or(|(number, _)| number != last) {
            missing += 1;
            let after = newest.map_or(0, |(_, at)| *at);
            assert!(
                last_gap.is_some_and(|gap| gap >= after),
                "the last of key {key} is missing without a word"
            );
        }
    }
    assert!(missing <= dropped, "{missing} keys have lost their last value, {dropped} were announced");
}

/// Within a priority, replies are in order, and so are publications of class `buffer` that have the priority of their
/// class. No publication of a class overtakes a reply or a last value with its priority, or is overtaken by the reply.
fn check_order(model: &Model, heard: &[Heard]) {
    let (mut last, mut last_reply, mut of_class) = ([0; 3], [0; 3], [0; 3]);
    for heard in heard {
        match heard {
            Heard::Reply { priority, pushed, .. } => {
                let all_before = last[*priority].max(of_class[*priority]);
                assert!(all_before < *pushed, "reply {pushed} comes behind {all_before}");
                (last[*priority], last_reply[*priority]) = (*pushed, *pushed);
            }
            Heard::Message { subscription, priority, pushed, is_last_value, .. } => {
                let class = &model.classes[*subscription];
                let home = class.priority as usize;
                assert!(last_reply[home] < *pushed, "{pushed} comes behind reply {}", last_reply[home]);
                if class.kind == Kind::Latest {
                    // It may have taken the place of an older one.
                    continue;
                }
                assert!(!is_last_value || of_class[home] < *pushed, "last value {pushed} comes behind");
                of_class[home] = of_class[home].max(*pushed);
                if *priority == home {
                    assert!(last[home] < *pushed, "{pushed} comes behind {}", last[home]);
                    last[home] = *pushed;
                }
            }
            Heard::Gap { .. } => {}
        }
    }
}

/// Each write begins with the most urgent frames, and has one publication of each key if the client is slow.
fn check_writes(model: &Model) {
    for write in &model.writes {
        assert!(write.offered.is_sorted_by_key(|(priority, _)| *priority), "something urgent stands behind");
        let mut keys: Vec<_> =
            write.offered.iter().filter_map(|(_, heard)| latest_key(model, heard)).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert!(!write.slow || keys.len() == count, "a slow client has two pending of one key");
    }
}

fn latest_key(model: &Model, heard: &Heard) -> Option<(usize, u64)> {
    match heard {
        Heard::Message { subscription, key, .. } if model.classes[*subscription].kind == Kind::Latest => {
            Some((*subscription, *key))
        }
        Heard::Message { .. } | Heard::Gap { .. } | Heard::Reply { .. } => None,
    }
}

fn check(model: &Model) {
    let heard = model.heard_all();
    check_replies(model, &heard);
    check_order(model, &heard);
    check_writes(model);
    for (subscription, class) in model.classes.iter().enumerate() {
        match class.kind {
            Kind::Buffer => check_buffer(model, &heard, subscription),
            Kind::Latest => check_latest(model, &heard, subscription),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn everything_comes_or_is_announced_at_its_place(
        happenings in vec(happening(), 0..150),
        bytes in 200..3000_usize,
        frames in 1..25_usize,
    ) {
        if let Some(model) = play(&happenings, OutboxLimits { bytes, frames }) {
            check(&model);
        }
    }

    /// With room for everything, nothing of class `buffer` is missing, and of class `latest` only what was replaced.
    #[test]
    fn with_room_nothing_is_dropped(happenings in vec(happening(), 0..150)) {
        let lasting = |happening: &Happening| !matches!(happening, Happening::Elapse(_));
        let happenings: Vec<Happening> = happenings.into_iter().filter(lasting).collect();
        let model = play(&happenings, OutboxLimits { bytes: 1_000_000, frames: 1_000 }).unwrap();
        check(&model);
        let gaps = model.heard_all().into_iter().filter(|heard| matches!(heard, Heard::Gap { .. })).count();
        prop_assert_eq!(gaps, 0);
    }
}
