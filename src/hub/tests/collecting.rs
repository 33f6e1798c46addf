//! Tests of subscribers that are shown elements together: case by case, and in any order against a naive model.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::DecodeError;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::DialectTraits;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::elements::CollectedMessage;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::elements::Element;
use tidegate_protocol::elements::ElementForm;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::native::Native;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;

use super::format as format_of;
use super::pattern;
use super::text;
use crate::hub::Hub;
use crate::hub::Subscribe;
use crate::hub::class_counts::ClassCounts;
use crate::hub::effects::Effects;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::subscriber::ConnectionId;
use crate::hub::subscriber::Subscriber;

const COLLECTION: CollectionId = CollectionId(0);
const INTERVAL: Duration = Duration::from_millis(100);

/// The native protocol, with lists of elements.
#[derive(Debug)]
struct Lists;

impl Dialect for Lists {
    fn name(&self) -> &str {
        "lists"
    }

    fn number(&self) -> VocabularyId {
        VocabularyId::NATIVE
    }

    fn traits(&self) -> DialectTraits {
        Native.traits()
    }

    fn format(&self, pattern: &Pattern) -> Format {
        Native.format(pattern)
    }

    fn decode(&self, scope: SessionScope<'_>, message: &ClientMessage) -> Result<Command, DecodeError> {
        Native.decode(scope, message)
    }

    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        Native.reply(scope, reply)
    }

    fn push(&self, scope: SessionScope<'_>, push: &Push) -> Option<Frame> {
        Native.push(scope, push)
    }

    fn channel_push(&self, push: &Push, _: Option<&SubscriptionContext>) -> Option<Frame> {
        let Push::Gap { cause, dropped, .. } = push else { return None };
        Some(frame(&format!("{} {}", cause.name(), dropped.unwrap_or_default())))
    }

    fn collected(&self, message: &CollectedMessage<'_>, _: Option<&SubscriptionContext>) -> Option<Frame> {
        Some(frame(&format!("[{}]", message.elements.join(","))))
    }
}

fn frame(text: &str) -> Frame {
    Frame::text(text.len(), |out| out.extend_from_slice(text.as_bytes()))
}

/// One client, and the hub of its shard.
struct Page {
    hub: Hub,
    subscriber: Rc<Subscriber>,
    now: Instant,
    next: u32,
    class: Class,
}

impl Page {
    fn new() -> Self {
        let limits = OutboxLimits { bytes: 100_000, frames: 4 };
        let subscriber = Rc::new(Subscriber::new(ConnectionId(0), Arc::new(Lists), limits));
        let class = Class { kind: Kind::Latest, snapshot: true, ..Class::plain(pattern(">")) };
        Self { hub: Hub::default(), subscriber, now: Instant::now(), next: 0, class }
    }

    fn ask(&mut self, channel: &str, max_rate: Option<Duration>) -> SubscriptionId {
        let subscription = SubscriptionId(self.next);
        self.next += 1;
        let context =
            SubscriptionContext { takes_elements: true, is_tailored: true, ..SubscriptionContext::default() };
        let subscribe = Subscribe {
            subscription,
            pattern: pattern(channel),
            format: format_of(0),
            class: Arc::new(self.class.clone()),
            max_rate,
            subscription_context: Some(Rc::new(context)),
        };
        self.hub.join(&self.subscriber, subscribe);
        subscription
    }

    fn answer(&mut self, channel: &str, snapshot: &[Elements]) {
        self.hub.seed(&pattern(channel), format_of(0), snapshot, self.now);
        for member in self.hub.joined(&pattern(channel), format_of(0)) {
            member.subscriber.note_joined(member.subscription);
            self.hub.go_live(&member.subscriber, member.subscription);
        }
    }

    fn join(&mut self, channel: &str) -> SubscriptionId {
        let id = self.ask(channel, None);
        self.answer(channel, &[]);
        id
    }

    fn elements(&self, list: &[(&str, &str, &str)]) -> Elements {
        let element = |(channel, key, json): &(&str, &str, &str)| {
            let (json, note) = ((*json).into(), Box::default());
            let form = ElementForm::Json { collection: Some(COLLECTION), json, note };
            Arc::new(Element { channel: (*channel).into(), key: (*key).into(), form })
        };
        let list = list.iter().map(element).collect();
        Elements { list, priority: Priority::Normal, arrived: self.now, time: SystemTime::UNIX_EPOCH }
    }

    /// Publishes elements: their channels, keys and JSON. Returns whether there is something to flush.
    fn publish(&self, topic: &str, list: &[(&str, &str, &str)]) -> bool {
        let mut effects = Effects::default();
        self.subscriber.clear_changed();
        let elements = self.elements(list);
        self.hub.publish_elements(&pattern(topic), format_of(0), &elements, self.now, &mut effects);
        !effects.changed.is_empty()
    }

    /// Takes what waits, of which the socket has room for `room` messages.
    fn drain(&self, room: usize) -> Vec<String> {
        let mut taken = Vec::new();
        self.subscriber.take(self.now, 64, 1 << 20, &mut taken, &mut ClassCounts::default());
        let whole = room.min(taken.len());
        self.subscriber.put_back(taken.drain(whole..), 0);
        taken.iter().map(|taken| text(taken.bytes())).collect()
    }
}

#[test]
fn a_slow_client_has_one_message_that_is_always_current() {
    let mut page = Page::new();
    page.join("s.a");
    page.join("s.b");
    assert!(page.publish("s.a", &[("s.a", "a", "1")]));
    assert!(!page.publish("s.a", &[("s.a", "a", "2")]), "one is waiting");
    assert!(!page.publish("s.b", &[("s.b", "b", "3")]));
    assert_eq!((page.subscriber.bytes(), page.subscriber.queued_publications().total()), (0, 1));
    assert_eq!(page.drain(0), [""; 0], "the socket is full");
    assert_eq!(page.subscriber.queued_publications().total(), 1);
    for number in 0..10_000 {
        page.publish("s.a", &[("s.a", "a", &number.to_string())]);
    }
    assert_eq!(page.drain(9), ["[9999,3]"]);
    assert_eq!((page.drain(9), page.subscriber.is_empty()), (Vec::new(), true));
}

#[test]
fn a_message_that_is_partly_written_is_finished_and_the_next_is_current() {
    let mut page = Page::new();
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1")]);
    let mut taken = Vec::new();
    page.subscriber.take(page.now, 64, 1 << 20, &mut taken, &mut ClassCounts::default());
    let whole = taken[0].bytes().to_vec();
    page.subscriber.put_back(taken.drain(..), 3);
    page.publish("s.a", &[("s.a", "a", "2")]);
    page.subscriber.take(page.now, 64, 1 << 20, &mut taken, &mut ClassCounts::default());
    assert_eq!(taken[0].bytes(), &whole[3..]);
    assert_eq!(text(taken[1].bytes()), "[2]");
}

#[test]
fn what_is_not_the_clients_or_not_new_causes_no_message() {
    let mut page = Page::new();
    page.join("s.a");
    let all = page.join("s.all");
    page.publish("s.all", &[("s.b", "b", "1")]);
    assert_eq!(page.drain(9), [""; 0]);
    page.publish("s.all", &[("s.b", "b", "2"), ("s.a", "a", "3")]);
    page.publish("s.all", &[("s.b", "b", "4")]);
    assert_eq!(page.drain(9), ["[3]"]);
    page.publish("s.a", &[("s.a", "a", "5")]);
    page.hub.leave(&page.subscriber, all);
    assert_eq!(page.drain(9), ["[5]"]);
    page.hub.leave(&page.subscriber, SubscriptionId(0));
    assert!(!page.publish("s.a", &[("s.a", "a", "6")]));
    assert_eq!(page.drain(9), [""; 0]);
}

#[test]
fn the_last_values_of_all_channels_come_once_and_after_all_have_joined() {
    let mut page = Page::new();
    let snapshot = |page: &Page, key: &str| vec![page.elements(&[(&format!("s.{key}"), key, "1")])];
    page.ask("s.a", None);
    page.ask("s.b", None);
    let gone = page.ask("s.c", None);
    page.answer("s.a", &snapshot(&page, "a"));
    assert_eq!(page.drain(9), [""; 0]);
    page.answer("s.b", &snapshot(&page, "b"));
    assert_eq!(page.drain(9), [""; 0]);
    page.hub.leave(&page.subscriber, gone);
    assert_eq!(page.drain(9), ["[1,1]"]);
    assert_eq!(page.drain(9), [""; 0]);
}

#[test]
fn after_a_loss_a_new_subscription_is_not_shown_what_was_before_it_and_an_old_one_is() {
    let (mut page, mut late) = (Page::new(), Page::new());
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1"), ("s.a", "b", "2")]);
    assert_eq!(page.drain(9), ["[1,2]"]);
    page.hub.note_loss(&pattern("s.a"), None);
    std::mem::swap(&mut page.subscriber, &mut late.subscriber);
    page.join("s.a");
    assert_eq!(page.drain(9), [""; 0]);
    page.publish("s.a", &[("s.a", "b", "3")]);
    assert_eq!(page.drain(9), ["[3]"]);
    std::mem::swap(&mut page.subscriber, &mut late.subscriber);
    assert_eq!(page.drain(9), ["[1,3]"]);
}

#[test]
fn without_snapshots_a_subscription_begins_with_nothing() {
    let (mut page, other) = (Page::new(), Page::new());
    page.class.snapshot = false;
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1")]);
    page.subscriber = other.subscriber;
    page.join("s.a");
    assert_eq!(page.drain(9), [""; 0]);
    page.publish("s.a", &[("s.a", "b", "2")]);
    assert_eq!(page.drain(9), ["[2]"]);
}

#[test]
fn max_rate_permits_one_message_per_interval() {
    let mut page = Page::new();
    page.ask("s.a", Some(INTERVAL));
    page.answer("s.a", &[]);
    page.publish("s.a", &[("s.a", "a", "1")]);
    assert_eq!(page.drain(9), ["[1]"]);
    assert!(page.publish("s.a", &[("s.a", "a", "2")]), "the flush schedules the deadline");
    assert!(!page.publish("s.a", &[("s.a", "b", "3")]));
    assert_eq!((page.drain(9), page.subscriber.delayed().total()), (vec![], 1));
    assert_eq!(page.subscriber.next_release(), Some(page.now + INTERVAL));
    page.now += INTERVAL;
    page.subscriber.release_due(page.now);
    assert_eq!(page.drain(9), ["[2,3]"]);
    assert_eq!(page.subscriber.next_release(), None);
}

#[test]
fn elements_that_expire_before_they_are_sent_are_a_gap() {
    let mut page = Page::new();
    page.class.max_age = Some(INTERVAL);
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1"), ("s.a", "b", "2")]);
    assert_eq!(page.drain(0), [""; 0]);
    page.now += INTERVAL;
    assert_eq!(page.drain(9), ["expired 2"]);
}

#[test]
fn what_is_left_out_is_announced_once() {
    let mut page = Page::new();
    page.join("s.a");
    let large = format!("\"{}\"", "x".repeat(40_000));
    page.publish("s.a", &[("s.a", "a", &large), ("s.a", "b", &large)]);
    let mut taken = Vec::new();
    page.subscriber.take(page.now, 64, 1 << 20, &mut taken, &mut ClassCounts::default());
    assert_eq!(taken.len(), 2);
    assert_eq!(text(taken[1].bytes()), "too_large 1");
    page.publish("s.a", &[("s.a", "b", &large)]);
    taken.clear();
    page.subscriber.take(page.now, 64, 1 << 20, &mut taken, &mut ClassCounts::default());
    assert_eq!(taken.len(), 1);
}

#[test]
fn elements_wait_behind_what_came_before_them_and_no_overflow_drops_them() {
    let mut page = Page::new();
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1")]);
    for _ in 0..9 {
        let class = Class::plain(pattern("x"));
        let delivery = tidegate_protocol::publication::Delivery {
            frame: frame("r"),
            key: "k".into(),
            priority: Priority::Normal,
            expires: None,
        };
        page.subscriber.offer(&Rc::new(delivery), SubscriptionId(0), &class, page.now);
    }
    assert_eq!(page.drain(9)[0], "[1]");
}

#[test]
fn a_client_whose_socket_is_full_is_told_once_of_each_lost_element() {
    let mut page = Page::new();
    page.class.max_age = Some(INTERVAL);
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1")]);
    page.now += INTERVAL;
    page.publish("s.a", &[("s.a", "b", "2")]);
    for _ in 0..20 {
        assert_eq!((page.drain(0), page.subscriber.queued_publications().total()), (vec![], 1));
    }
    assert_eq!(page.drain(1), ["[2]"], "there was no room for the gap");
    for _ in 0..20 {
        assert_eq!((page.drain(0), page.subscriber.queued_publications().total()), (vec![], 1));
    }
    assert_eq!(page.drain(9), ["expired 1"]);
    assert_eq!((page.drain(9), page.subscriber.is_empty()), (vec![], true));
}

#[test]
fn what_is_lost_while_the_socket_is_full_is_one_gap() {
    let mut page = Page::new();
    page.class.max_age = Some(INTERVAL);
    page.join("s.a");
    for number in 0..20 {
        page.publish("s.a", &[("s.a", &number.to_string(), "1")]);
        page.now += INTERVAL;
        assert_eq!((page.drain(0), page.subscriber.queued_publications().total()), (vec![], 1));
    }
    assert_eq!(page.drain(9), ["expired 20"]);
    assert_eq!((page.drain(9), page.subscriber.is_empty()), (vec![], true));
}

#[test]
fn a_subscription_is_not_told_of_a_loss_before_it_joined() {
    let (mut page, other) = (Page::new(), Page::new());
    page.class.max_age = Some(INTERVAL);
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1")]);
    assert_eq!(page.drain(9), ["[1]"]);
    page.now += INTERVAL;
    page.subscriber = other.subscriber;
    page.join("s.a");
    assert_eq!(page.drain(9), [""; 0]);
    page.publish("s.a", &[("s.a", "b", "2")]);
    page.now += INTERVAL;
    assert_eq!(page.drain(9), ["expired 1"]);
}

#[test]
fn last_values_for_a_new_subscription_are_no_news_for_others() {
    let (mut page, mut late) = (Page::new(), Page::new());
    page.class.max_age = Some(INTERVAL);
    page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1")]);
    let snapshot = vec![page.elements(&[("s.a", "a", "1")])];
    assert_eq!(page.drain(9), ["[1]"]);
    page.hub.note_loss(&pattern("s.a"), None);
    std::mem::swap(&mut page.subscriber, &mut late.subscriber);
    page.ask("s.a", None);
    page.answer("s.a", &snapshot);
    assert_eq!(page.drain(9), ["[1]"], "the lane has it, so it is not outdated");
    std::mem::swap(&mut page.subscriber, &mut late.subscriber);
    page.now += INTERVAL;
    page.publish("s.a", &[("s.a", "b", "2")]);
    assert_eq!(page.drain(9), ["[2]"]);
}

#[test]
fn an_element_is_kept_until_its_channel_has_joined() {
    let mut page = Page::new();
    page.join("s.all");
    let waiting = page.ask("s.b", None);
    let publish = |page: &Page, text: &str| {
        let mut elements = page.elements(&[]);
        let form = ElementForm::Message(frame(text));
        elements.list.push(Arc::new(Element { channel: "s.b".into(), key: "k".into(), form }));
        let (all, mut effects) = (pattern("s.all"), Effects::default());
        page.hub.publish_elements(&all, format_of(0), &elements, page.now, &mut effects);
        page.drain(9)
    };
    for number in 0..6 {
        assert_eq!(publish(&page, &number.to_string()), [""; 0]);
    }
    page.answer("s.b", &[]);
    let (kept, dropped) = page.subscriber.take_waiting(waiting);
    let kept: Vec<_> = kept.iter().map(|kept| text(kept.delivery.frame.as_bytes())).collect();
    assert_eq!((kept, dropped), (["2", "3", "4", "5"].map(String::from).to_vec(), 2), "four have room");
    assert_eq!(page.subscriber.take_waiting(waiting).1, 0);
    assert_eq!(publish(&page, "now"), ["now"]);
    let again = page.ask("s.c", None);
    page.hub.leave(&page.subscriber, again);
    assert_eq!(page.subscriber.take_waiting(again).0.len(), 0);
}

#[test]
fn elements_of_a_channel_are_in_order_whatever_the_class_of_the_channel_they_came_over() {
    let mut page = Page::new();
    page.join("s.all");
    page.class.priority = Priority::Low;
    let waiting = page.ask("s.b", None);
    let publish = |page: &Page, text: &str| {
        let mut elements = page.elements(&[]);
        let form = ElementForm::Message(frame(text));
        elements.list.push(Arc::new(Element { channel: "s.b".into(), key: text.into(), form }));
        let (all, mut effects) = (pattern("s.all"), Effects::default());
        page.hub.publish_elements(&all, format_of(0), &elements, page.now, &mut effects);
    };
    publish(&page, "older");
    page.answer("s.b", &[]);
    page.subscriber.push_reply(frame("joined"), Priority::Low);
    let (kept, _) = page.subscriber.take_waiting(waiting);
    let kept = kept.into_iter().map(|kept| Rc::unwrap_or_clone(kept.delivery)).collect();
    page.subscriber.push_snapshot(kept, waiting);
    publish(&page, "newer");
    assert_eq!(page.drain(9), ["joined", "older", "newer"]);
}

#[test]
fn an_element_for_two_subscriptions_that_join_is_shown_once() {
    let mut page = Page::new();
    page.join("s.all");
    let waiting = ["s.*.x", "s.a.*"].map(|channel| page.ask(channel, None));
    let mut elements = page.elements(&[]);
    for number in 0..2 {
        let form = ElementForm::Message(frame(&number.to_string()));
        elements.list.push(Arc::new(Element { channel: "s.a.x".into(), key: "k".into(), form }));
    }
    let (all, mut effects) = (pattern("s.all"), Effects::default());
    page.hub.publish_elements(&all, format_of(0), &elements, page.now, &mut effects);
    page.answer("s.a.*", &[]);
    assert_eq!(waiting.map(|id| page.subscriber.take_waiting(id).0.len()), [2, 0]);
    page.answer("s.*.x", &[]);
    page.hub.publish_elements(&all, format_of(0), &elements, page.now, &mut effects);
    assert_eq!(page.drain(9), ["0", "1"]);
}

#[test]
fn the_shortest_interval_and_the_most_urgent_priority_of_the_changed_channels_count() {
    let mut page = Page::new();
    page.class.priority = Priority::Low;
    page.ask("s.slow", Some(10 * INTERVAL));
    page.answer("s.slow", &[]);
    page.ask("s.faster", Some(INTERVAL));
    page.answer("s.faster", &[]);
    page.class.priority = Priority::High;
    page.join("s.fast");
    page.publish("s.slow", &[("s.slow", "a", "1")]);
    assert_eq!(page.drain(9), ["[1]"]);
    page.publish("s.slow", &[("s.slow", "a", "2")]);
    assert_eq!(page.subscriber.next_release(), Some(page.now + 10 * INTERVAL));
    assert!(page.publish("s.faster", &[("s.faster", "b", "3")]));
    assert_eq!(page.subscriber.next_release(), Some(page.now + INTERVAL));
    assert!(page.publish("s.fast", &[("s.fast", "c", "4")]));
    assert_eq!(page.drain(9), ["[2,3,4]"]);
    page.now += 10 * INTERVAL;
    let reply = |page: &Page| assert!(page.subscriber.push_reply(frame("reply"), Priority::Normal));
    for round in 0..20 {
        page.publish("s.slow", &[("s.slow", "a", "5")]);
        if round == 0 {
            reply(&page);
        }
        page.publish("s.fast", &[("s.fast", "c", "6")]);
        let mut taken = Vec::new();
        page.subscriber.take(page.now, 1, 1 << 20, &mut taken, &mut ClassCounts::default());
        assert_eq!(text(taken[0].bytes()), "[5,3,6]", "before the reply");
        assert!(page.subscriber.queued_publications().total() <= 1);
        page.now += 10 * INTERVAL;
    }
    assert_eq!(page.drain(9), ["reply"]);
    assert!(page.subscriber.is_empty());
}

#[test]
fn a_changed_filter_shows_the_elements_that_pass_now() {
    let mut page = Page::new();
    let id = page.join("s.a");
    page.publish("s.a", &[("s.a", "a", "1")]);
    assert_eq!(page.drain(9), ["[1]"]);
    page.subscriber.note_filtered(id);
    assert_eq!((page.drain(9), page.drain(9)), (vec!["[1]".to_owned()], vec![]));
}

#[test]
fn who_leaves_and_joins_again_leaves_nothing_in_the_outbox() {
    let mut page = Page::new();
    for number in 0..100 {
        let id = page.join("s.a");
        page.publish("s.a", &[("s.a", "a", &number.to_string())]);
        assert_eq!((page.drain(0), page.subscriber.queued_publications().total()), (vec![], 1));
        page.hub.leave(&page.subscriber, id);
        assert_eq!((page.subscriber.queued_publications().total(), page.subscriber.is_empty()), (0, true));
    }
}

proptest! {
    /// Whatever the order of publications and writes, the client finally shows the newest element of each channel.
    #[test]
    fn the_client_finally_shows_the_newest_element_of_each_of_its_channels(
        steps in vec((0..6_usize, vec((0..4_usize, 0..3_u8), 0..4), 0..3_usize), 0..60),
    ) {
        const CHANNELS: [&str; 4] = ["s.a", "s.b", "s.c", "s.no"];
        const TOPICS: [&str; 4] = ["s.all", "s.a", "s.b", "s.c"];
        let mut page = Page::new();
        for topic in TOPICS {
            page.join(topic);
        }
        let (mut newest, mut shown) = (BTreeMap::new(), Vec::new());
        for (at, (topic, list, room)) in steps.iter().enumerate() {
            if let Some(topic) = TOPICS.get(*topic) {
                let numbered = list.iter().enumerate().map(|(place, (channel, key))| {
                    (CHANNELS[*channel], format!("{channel}/{key}"), (at * 10 + place).to_string())
                });
                let numbered: Vec<_> = numbered.collect();
                for (channel, key, json) in &numbered {
                    if *channel != "s.no" {
                        newest.insert(key.clone(), json.clone());
                    }
                }
                let list: Vec<_> = numbered.iter().map(|(channel, key, json)| (*channel, &**key, &**json)).collect();
                page.now += Duration::from_millis(u64::from(at % 2 == 0));
                page.publish(topic, &list);
                prop_assert!(page.subscriber.queued_publications().total() <= 1, "at most one is pending");
            } else {
                shown.extend(page.drain(*room));
            }
        }
        shown.extend(page.drain(9));
        let mut expected: Vec<u64> = newest.into_values().map(|json| json.parse().unwrap()).collect();
        expected.sort_unstable();
        let mut last: Vec<u64> = shown.last().map(|last| serde_json::from_str(last).unwrap()).unwrap_or_default();
        last.sort_unstable();
        prop_assert_eq!(last, expected);
    }
}
