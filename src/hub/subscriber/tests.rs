//! Tests of subscribers, case by case.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::*;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::message::FieldIndex;
use tidegate_protocol::message::Filter;
use tidegate_protocol::native::Native;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::slots::Slots;

const ROOM: OutboxLimits = OutboxLimits { bytes: 1_000_000, frames: 1000 };

fn of(limits: OutboxLimits) -> Subscriber {
    Subscriber::new(ConnectionId(0), Arc::new(Native), limits)
}

fn class(on: &str, kind: Kind) -> Arc<Class> {
    Arc::new(Class { kind, ..Class::plain(Pattern::parse(on).unwrap()) })
}

fn delivery(text: &str) -> Rc<Delivery> {
    let frame = Frame::text(0, |out| out.extend_from_slice(text.as_bytes()));
    Rc::new(Delivery { frame, key: text[..1].into(), priority: Priority::Normal, expires: None })
}

/// Drains the outbox and returns its messages.
fn written(subscriber: &Subscriber) -> Vec<String> {
    let mut taken = Vec::new();
    subscriber.take(Instant::now(), 64, 100_000, &mut taken, &mut ClassCounts::default());
    subscriber.forget_ended();
    taken.iter().map(|taken| String::from_utf8(taken.bytes()[2..].to_vec()).unwrap()).collect()
}

/// The bytes that the outbox may use.
fn room(subscriber: &Subscriber) -> usize {
    subscriber.outbox.borrow().room().bytes
}

fn size_of_delayed(subscriber: &Subscriber) -> ConflationSize {
    subscriber.with_conflation_size(|size| *size)
}

#[test]
fn a_gap_is_announced_even_if_the_channel_was_left_meanwhile() {
    let subscriber = of(OutboxLimits { frames: 2, ..ROOM });
    let push = |id, class: &Class| {
        (0..2).for_each(|_| subscriber.push(&DeliveryBatch::One(delivery("m")), id, class));
    };
    let (left, stays) = (SubscriptionId(0), SubscriptionId(1));
    for (id, on) in [(left, "s0"), (stays, "s1")] {
        let class = class(on, Kind::Buffer);
        subscriber.add_member(id, class.pattern.clone(), Arc::clone(&class), None, None);
        push(id, &class);
    }
    assert!(subscriber.leave(left).is_some());
    assert!(subscriber.leave(left).is_none());
    let gap = r#"{"type":"gap","channel":"s0","cause":"slow","dropped":2}"#;
    assert_eq!(written(&subscriber), [gap, "m", "m"]);
    assert!(subscriber.ended.borrow().is_none(), "nothing can become a gap any more");
    assert!(subscriber.leave(stays).is_some());
    assert!(subscriber.ended.borrow().is_none(), "nothing waits");
}

#[test]
fn a_change_is_noted_once_until_the_flush() {
    let subscriber = of(ROOM);
    assert!(subscriber.mark_changed());
    assert!(!subscriber.mark_changed());
    subscriber.clear_changed();
    assert!(subscriber.mark_changed());
}

#[test]
fn delayed_publications_are_released_after_the_interval() {
    let now = Instant::now();
    let interval = Duration::from_millis(100);
    let subscriber = of(ROOM);
    let pattern = Pattern::parse("prices.*").unwrap();
    let class = Rc::new(Class { kind: Kind::Latest, ..Class::plain(pattern.clone()) });
    let (rate_limited, free) = (SubscriptionId(1), SubscriptionId(2));
    subscriber.add_member(rate_limited, pattern.clone(), Class::clone(&class).into(), Some(interval), None);
    subscriber.add_member(free, pattern, Class::clone(&class).into(), None, None);
    let offer = |id, text: &str, after: u64| {
        let frame = Frame::text(0, |out| out.extend_from_slice(text.as_bytes()));
        let delivery =
            Rc::new(Delivery { frame, key: text[..1].into(), priority: Priority::Normal, expires: None });
        subscriber.offer(&delivery, id, &class, now + Duration::from_millis(after));
    };
    let texts = || {
        let mut taken = Vec::new();
        subscriber.take(now, 64, 1000, &mut taken, &mut ClassCounts::default());
        let text = |bytes: &[u8]| String::from_utf8(bytes[2..].to_vec()).unwrap();
        taken.iter().map(|taken| text(taken.bytes())).collect::<Vec<_>>()
    };
    assert_eq!(subscriber.next_release(), None);
    for (id, text) in [
        (rate_limited, "a1"),
        (rate_limited, "a2"),
        (rate_limited, "b1"),
        (rate_limited, "a3"),
        (free, "a4"),
        (free, "a5"),
    ] {
        offer(id, text, 0);
    }
    assert_eq!(texts(), ["a1", "b1", "a4", "a5"]);
    assert_eq!(subscriber.delayed().total(), 1, "a2 has been replaced by a3");
    assert_eq!(subscriber.next_release(), Some(now + interval));
    subscriber.release_due(now + Duration::from_millis(99));
    assert_eq!(texts(), [""; 0]);
    subscriber.release_due(now + interval);
    assert_eq!(texts(), ["a3"]);
    offer(rate_limited, "a6", 150);
    offer(rate_limited, "b2", 150);
    assert_eq!(texts(), ["b2"], "only a has been sent lately");
    subscriber.leave(rate_limited);
    subscriber.release_due(now + Duration::from_secs(1));
    offer(rate_limited, "a7", 2000);
    assert_eq!(texts(), [""; 0], "a channel that was left sends nothing more");
    assert_eq!(subscriber.next_release(), None);
}

#[test]
fn delayed_publications_count_in_the_bytes_of_the_outbox_and_are_bounded() {
    let now = Instant::now();
    let limits = OutboxLimits { bytes: 10_000, frames: 100 };
    let subscriber = of(limits);
    let pattern = Pattern::parse("prices.*").unwrap();
    let class = Arc::new(Class { kind: Kind::Latest, ..Class::plain(pattern.clone()) });
    let rate_limited = [SubscriptionId(1), SubscriptionId(2)];
    for id in rate_limited {
        subscriber.add_member(id, pattern.clone(), Arc::clone(&class), Some(Duration::from_secs(60)), None);
    }
    let offer = |id, key: usize, length: usize| {
        let frame = Frame::text(0, |out| out.resize(out.len() + length, b'x'));
        let delivery = Rc::new(Delivery {
            frame,
            key: format!("{key}").into(),
            priority: Priority::Normal,
            expires: None,
        });
        subscriber.offer(&delivery, id, &class, now);
    };
    let written = || {
        let mut taken = Vec::new();
        while {
            let before = taken.len();
            subscriber.take(now, taken.len() + 64, usize::MAX, &mut taken, &mut ClassCounts::default());
            taken.len() > before
        } {}
        taken.len()
    };
    for id in rate_limited {
        (0..10).for_each(|key| offer(id, key, 8));
    }
    assert_eq!(written(), 20, "the first of each key goes at once");
    for id in rate_limited.into_iter().cycle().take(4) {
        (0..10).for_each(|key| offer(id, key, 400));
        let held = size_of_delayed(&subscriber);
        assert!(held.bytes <= 5_000, "{held:?}");
        assert_eq!(held.bytes as u64, 20 * 65 + 404 * subscriber.delayed().total());
    }
    assert!((1..20).contains(&subscriber.delayed().total()), "{:?} wait", subscriber.delayed());
    assert_eq!(written(), 11, "what found no room to wait was not slowed down: the newest of each key");
    let waited = subscriber.delayed().total();
    assert_eq!(rate_limited.map(|id| subscriber.drop_delayed(id).total()).iter().sum::<u64>(), waited);
    assert_eq!(size_of_delayed(&subscriber), ConflationSize { keys: 20, bytes: 20 * 65 });
    assert_eq!(room(&subscriber), 10_000 - 20 * 65);
    (100..300).for_each(|key| offer(rate_limited[0], key, 0));
    assert!(size_of_delayed(&subscriber).keys <= 100, "keys are bounded for all subscriptions together");
    rate_limited.into_iter().for_each(|id| drop(subscriber.leave(id)));
    assert_eq!((size_of_delayed(&subscriber), room(&subscriber)), (ConflationSize::default(), 10_000));
}

/// A last value of this key, with a slot at its end and the key as its note.
fn last_value(key: &str, expires: Option<Instant>) -> Delivery {
    let write = |out: &mut Vec<u8>| {
        let before = out.len();
        out.extend_from_slice(key.as_bytes());
        let mut slots = Slots::default();
        slots.add(out.len() - before, 0);
        slots
    };
    let frame = Scratch::default().frame(key.len(), write, key.as_bytes());
    Delivery { frame, key: key.into(), priority: Priority::Normal, expires }
}

#[test]
fn a_snapshot_is_filtered_and_filled_and_max_rate_does_not_delay_it() {
    let (subscriber, now) = (of(ROOM), Instant::now());
    let (id, class) = (SubscriptionId(0), class("s0", Kind::Latest));
    let inserts = Box::new([(0, b"!".to_vec().into_boxed_slice())]);
    let context = SubscriptionContext { inserts, is_tailored: true, ..SubscriptionContext::default() };
    context.set_filter(Filter {
        field: FieldIndex(0),
        name: "key".into(),
        values: None,
        not: Box::new(["b".into()]),
        min: None,
        max: None,
    });
    let context = Some(Rc::new(context));
    subscriber.add_member(id, class.pattern.clone(), class.clone(), Some(Duration::from_secs(60)), context);
    let snapshot: Vec<_> = ["a", "b", "c", "a"].map(|key| last_value(key, None)).into();
    subscriber.push_snapshot(snapshot.clone(), id);
    assert_eq!(subscriber.queued_publications().total(), 0, "last values do not count as delivered");
    assert_eq!(written(&subscriber), ["a!", "c!", "a!"]);
    assert_eq!((subscriber.delayed().total(), subscriber.next_release()), (0, None));
    subscriber.offer(&Rc::new(last_value("a", None)), id, &class, now);
    assert_eq!(written(&subscriber), ["a!"], "the first publication is sent at once");
    subscriber.leave(id);
    subscriber.push_snapshot(snapshot, id);
    assert!(subscriber.is_empty(), "the client has left");
}

#[test]
fn last_values_that_become_too_old_while_they_wait_are_a_gap() {
    let (subscriber, now) = (of(ROOM), Instant::now());
    let (id, class) = (SubscriptionId(0), class("s0", Kind::Latest));
    subscriber.add_member(id, class.pattern.clone(), class.clone(), None, None);
    let snapshot = [("a", 1), ("b", 1), ("c", 2)]
        .map(|(key, seconds)| last_value(key, Some(now + Duration::from_secs(seconds))));
    subscriber.push_snapshot(snapshot.into(), id);
    let mut taken = Vec::new();
    let counts =
        subscriber.take(now + Duration::from_secs(1), 64, 1000, &mut taken, &mut ClassCounts::default());
    assert_eq!((counts.delivered, counts.dropped), (0, 2));
    let texts = taken.iter().map(|taken| String::from_utf8_lossy(&taken.bytes()[2..]).into_owned());
    let gap = r#"{"type":"gap","channel":"s0","cause":"expired","dropped":2}"#;
    assert_eq!(texts.collect::<Vec<_>>(), [gap, "c"]);
}
