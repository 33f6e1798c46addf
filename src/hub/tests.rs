//! Tests of the hub: joins, deliveries and leaves, case by case and in any order against a naive model.

mod collecting;
mod naive;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::RouteId;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::native::Native;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

use crate::hub::Hub;
use crate::hub::Subscribe;
use crate::hub::class_counts::ClassCounts;
use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::effects::Effects;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::subscriber::ConnectionId;
use crate::hub::subscriber::MemberState;
use crate::hub::subscriber::Subscriber;
use crate::hub::topic_member::TopicMember;

const INTERVAL: Duration = Duration::from_millis(100);

fn subscriber(owner: usize) -> Rc<Subscriber> {
    let limits = OutboxLimits { bytes: 100_000, frames: 1000 };
    Rc::new(Subscriber::new(ConnectionId(owner), Arc::new(Native), limits))
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn format(route: u16) -> Format {
    Format { vocabulary: VocabularyId::NATIVE, route: RouteId(route), encoding: Encoding::JSON }
}

fn subscribe(subscription: u32, on: &str, route: u16, max_rate: Option<Duration>) -> Subscribe {
    let class = Class { kind: Kind::Latest, ..Class::plain(pattern(on)) };
    let (pattern, class) = (pattern(on), Arc::new(class));
    Subscribe {
        subscription: SubscriptionId(subscription),
        pattern,
        format: format(route),
        class,
        max_rate,
        subscription_context: None,
    }
}

/// A publication in these formats. Its text shows the format.
fn encoded(text: &str, routes: &[u16]) -> Vec<(Format, DeliveryBatch)> {
    let encode = |route: &u16| {
        let text = format!("{text}/{route}");
        let frame = Frame::text(0, |out| out.extend_from_slice(text.as_bytes()));
        (
            format(*route),
            DeliveryBatch::One(Rc::new(Delivery {
                frame,
                key: "key".into(),
                priority: Priority::Normal,
                expires: None,
            })),
        )
    };
    routes.iter().map(encode).collect()
}

fn text(frame: &[u8]) -> String {
    String::from_utf8(frame[2..].to_vec()).unwrap()
}

/// The frames of an outbox, which is empty afterwards.
fn written(subscriber: &Subscriber) -> Vec<String> {
    let mut taken = Vec::new();
    subscriber.clear_changed();
    subscriber.take(Instant::now(), 64, 100_000, &mut taken, &mut ClassCounts::default());
    taken.iter().map(|taken| text(taken.bytes())).collect()
}

fn names(members: &[TopicMember]) -> Vec<(usize, u32)> {
    members.iter().map(|member| (member.subscriber.owner.0, member.subscription.0)).collect()
}

fn held(effects: &Effects) -> Vec<(usize, u32, String)> {
    let name = |(subscriber, subscription, delivery): &(Rc<Subscriber>, SubscriptionId, Rc<Delivery>)| {
        (subscriber.owner.0, subscription.0, text(delivery.frame.as_bytes()))
    };
    effects.held.iter().map(name).collect()
}

fn publish(hub: &Hub, on: &str, text: &str, routes: &[u16]) -> (bool, Effects) {
    let mut effects = Effects::default();
    let topic = hub.topic(&pattern(on));
    topic.inspect(|topic| topic.publish(&encoded(text, routes), Instant::now(), &mut effects));
    (topic.is_some(), effects)
}

#[test]
fn a_lane_is_asked_once_for_each_format_until_it_answers() {
    let (mut hub, a, b) = (Hub::default(), subscriber(0), subscriber(1));
    assert!(hub.join(&a, subscribe(0, "x", 0, None)));
    assert!(!hub.join(&b, subscribe(0, "x", 0, None)), "the question is on its way");
    assert!(hub.join(&b, subscribe(1, "y", 0, None)), "another subject");
    let c = subscriber(2);
    assert!(hub.join(&c, subscribe(0, "x", 1, None)), "another format");
    assert_eq!(names(&hub.joined(&pattern("x"), format(0))), [(0, 0), (1, 0)]);
    assert_eq!(names(&hub.joined(&pattern("x"), format(0))), [], "nobody waits any more");
    let d = subscriber(3);
    assert!(
        hub.join(&d, subscribe(0, "x", 0, None)),
        "whoever comes later needs an answer, and a snapshot, of his own"
    );
    assert_eq!(names(&hub.joined(&pattern("x"), format(1))), [(2, 0)]);
    assert_eq!(names(&hub.joined(&pattern("z"), format(0))), []);
}

#[test]
fn who_caused_a_request_to_the_lane_is_a_reader_of_its_answer_even_after_it_has_left() {
    let (mut hub, a, b) = (Hub::default(), subscriber(0), subscriber(1));
    let readers = |hub: &Hub, route| {
        let readers = hub.readers(&pattern("x"), format(route));
        readers.iter().map(|reader| reader.owner.0).collect::<Vec<_>>()
    };
    hub.join(&a, subscribe(0, "x", 0, None));
    hub.join(&b, subscribe(0, "x", 0, None));
    hub.join(&b, subscribe(1, "x", 1, None));
    assert_eq!((readers(&hub, 0), readers(&hub, 1)), (vec![0, 1], vec![1]));
    hub.leave(&a, SubscriptionId(0));
    hub.leave(&b, SubscriptionId(0));
    assert_eq!(readers(&hub, 0), [0]);
    hub.join(&b, subscribe(2, "x", 0, None));
    assert_eq!(readers(&hub, 0), [1, 0], "one answer serves both");
    hub.joined(&pattern("x"), format(0));
    assert_eq!((readers(&hub, 0), readers(&hub, 1)), (vec![], vec![1]));
}

#[test]
fn publications_go_to_live_outboxes_and_to_the_sessions_of_held_members() {
    let (mut hub, live, waiting, held_one) = (Hub::default(), subscriber(0), subscriber(1), subscriber(2));
    hub.join(&live, subscribe(0, "x", 0, None));
    hub.join(&held_one, subscribe(5, "x", 0, None));
    hub.joined(&pattern("x"), format(0));
    hub.go_live(&live, SubscriptionId(0));
    hub.join(&waiting, subscribe(0, "x", 0, None));
    let (heard, effects) = publish(&hub, "x", "p", &[0, 1]);
    assert!(heard);
    assert_eq!(held(&effects), [(2, 5, "p/0".to_owned())]);
    assert_eq!(effects.changed.iter().map(|subscriber| subscriber.owner.0).collect::<Vec<_>>(), [0]);
    assert_eq!(
        (written(&live), written(&waiting), written(&held_one)),
        (vec!["p/0".to_owned()], vec![], vec![])
    );
    assert!(!publish(&hub, "y", "p", &[0]).0, "nobody listens there");
}

#[test]
fn a_batch_goes_one_by_one_to_held_and_rate_limited_members() {
    let (mut hub, rate_limited, held_one) = (Hub::default(), subscriber(0), subscriber(1));
    hub.join(&rate_limited, subscribe(0, "x", 0, Some(INTERVAL)));
    hub.join(&held_one, subscribe(0, "x", 0, None));
    hub.joined(&pattern("x"), format(0));
    hub.go_live(&rate_limited, SubscriptionId(0));
    let (now, mut effects) = (Instant::now(), Effects::default());
    let mut run = encoded("p", &[0])
        .iter()
        .chain(&encoded("q", &[0]))
        .flat_map(|(_, p)| p.deliveries().to_vec())
        .collect();
    let run = DeliveryBatch::pack(&mut run).unwrap();
    hub.topic(&pattern("x")).unwrap().publish(&[(format(0), run)], now, &mut effects);
    assert_eq!(held(&effects), [(1, 0, "p/0".to_owned()), (1, 0, "q/0".to_owned())]);
    assert_eq!(written(&rate_limited), ["p/0"]);
    rate_limited.release_due(now + INTERVAL);
    assert_eq!(written(&rate_limited), ["q/0"]);
}

#[test]
fn a_changed_outbox_is_noted_once_until_its_flush() {
    let (mut hub, a) = (Hub::default(), subscriber(0));
    for (subscription, on) in [(0, "x"), (1, "y")] {
        hub.join(&a, subscribe(subscription, on, 0, None));
        hub.joined(&pattern(on), format(0));
        hub.go_live(&a, SubscriptionId(subscription));
    }
    let mut effects = Effects::default();
    for on in ["x", "y", "x"] {
        hub.topic(&pattern(on)).unwrap().publish(&encoded(on, &[0]), Instant::now(), &mut effects);
    }
    assert_eq!(effects.changed.len(), 1);
    assert_eq!(written(&a), ["x/0", "y/0", "x/0"]);
    hub.topic(&pattern("x")).unwrap().publish(&encoded("x", &[0]), Instant::now(), &mut effects);
    assert_eq!(effects.changed.len(), 2, "after the flush it is noted again");
}

#[test]
fn a_half_full_outbox_is_urgent_unless_its_client_is_slow() {
    let (mut hub, a) = (Hub::default(), subscriber(0));
    hub.join(&a, subscribe(0, "x", 0, None));
    hub.joined(&pattern("x"), format(0));
    hub.go_live(&a, SubscriptionId(0));
    let (topic, mut effects) = (hub.topic(&pattern("x")).unwrap(), Effects::default());
    let publish = |effects: &mut Effects| topic.publish(&encoded("p", &[0]), Instant::now(), effects);
    (0..500).for_each(|_| publish(&mut effects));
    assert!(effects.urgent.is_empty(), "it has room for 1,000");
    publish(&mut effects);
    assert_eq!(effects.urgent.drain(..).map(|subscriber| subscriber.owner.0).collect::<Vec<_>>(), [0]);
    let mut taken = Vec::new();
    a.take(Instant::now(), 1, 100_000, &mut taken, &mut ClassCounts::default());
    a.put_back(taken.drain(..), 0);
    (0..1000).for_each(|_| publish(&mut effects));
    assert!(effects.urgent.is_empty(), "its socket has no room: it is flushed when it has");
}

#[test]
fn a_class_with_batch_ms_delays_the_flush() {
    let (mut hub, a) = (Hub::default(), subscriber(0));
    let wait = Duration::from_millis(20);
    let class = Arc::new(Class { batch: wait, ..Class::plain(pattern("x")) });
    hub.join(&a, Subscribe { class, ..subscribe(0, "x", 0, None) });
    hub.joined(&pattern("x"), format(0));
    hub.go_live(&a, SubscriptionId(0));
    let (_, effects) = publish(&hub, "x", "p", &[0]);
    assert!(effects.changed.is_empty());
    assert_eq!(
        effects.delayed.iter().map(|(subscriber, wait)| (subscriber.owner.0, *wait)).collect::<Vec<_>>(),
        [(0, wait)]
    );
    assert_eq!(written(&a), ["p/0"]);
}

#[test]
fn only_a_format_that_is_wanted_is_delivered() {
    let (mut hub, a, b) = (Hub::default(), subscriber(0), subscriber(1));
    for (subscriber, route) in [(&a, 0), (&b, 1)] {
        hub.join(subscriber, subscribe(0, "x", route, None));
        hub.joined(&pattern("x"), format(route));
    }
    hub.go_live(&a, SubscriptionId(0));
    let (_, effects) = publish(&hub, "x", "p", &[0]);
    assert_eq!((written(&a), held(&effects)), (vec!["p/0".to_owned()], vec![]));
    let (_, effects) = publish(&hub, "x", "q", &[1]);
    assert_eq!((written(&a), held(&effects)), (vec![], vec![(1, 0, "q/1".to_owned())]));
    assert!(effects.changed.is_empty());
}

#[test]
fn the_last_member_to_leave_removes_the_topic() {
    let (mut hub, a, b) = (Hub::default(), subscriber(0), subscriber(1));
    hub.join(&a, subscribe(0, "x", 0, None));
    hub.join(&b, subscribe(0, "x", 0, None));
    hub.joined(&pattern("x"), format(0));
    hub.go_live(&a, SubscriptionId(0));
    let c = subscriber(2);
    hub.join(&c, subscribe(0, "x", 0, None));
    assert_eq!(hub.leave(&a, SubscriptionId(0)), None);
    assert_eq!(hub.leave(&a, SubscriptionId(0)), None, "it has left already");
    assert_eq!(hub.leave(&b, SubscriptionId(0)), None);
    assert!(hub.has_topic(&pattern("x")));
    assert_eq!(hub.leave(&c, SubscriptionId(0)), None, "an answer is on its way");
    hub.joined(&pattern("x"), format(0));
    assert!(hub.remove_if_unused(&pattern("x")), "it came for nobody");
    assert!(!hub.has_topic(&pattern("x")));
    assert!(hub.join(&a, subscribe(1, "x", 0, None)), "it is all new");
    hub.joined(&pattern("x"), format(0));
    assert!(!hub.remove_if_unused(&pattern("x")));
    assert_eq!(hub.leave(&a, SubscriptionId(1)), Some(pattern("x")));
}

#[test]
fn a_number_is_of_one_topic_even_after_that_has_ended() {
    let (mut hub, a) = (Hub::default(), subscriber(0));
    let mut ended = Vec::new();
    for (id, on) in (0..).zip(["x", "y", "x", "x", "z"]) {
        hub.join(&a, subscribe(id, on, 0, None));
        hub.joined(&pattern(on), format(0));
        let number = hub.topic_id(&pattern(on)).unwrap();
        assert_eq!(number.place, 0, "it reuses the place");
        assert!(hub.numbered(number).is_some() && !ended.contains(&number));
        assert!(ended.iter().all(|ended| hub.numbered(*ended).is_none()));
        assert_eq!(hub.leave(&a, SubscriptionId(id)), Some(pattern(on)));
        assert!(hub.numbered(number).is_none() && hub.topic_id(&pattern(on)).is_none());
        ended.push(number);
    }
}

#[test]
fn topics_have_different_numbers_and_are_found_by_them() {
    let (mut hub, a) = (Hub::default(), subscriber(0));
    for (id, on) in (0..).zip(["x", "y", "z"]) {
        hub.join(&a, subscribe(id, on, 0, None));
        hub.joined(&pattern(on), format(0));
    }
    assert_eq!(hub.leave(&a, SubscriptionId(1)), Some(pattern("y")));
    for on in ["x", "z"] {
        let number = hub.topic_id(&pattern(on)).unwrap();
        let by_pattern = hub.topic(&pattern(on)).unwrap();
        assert!(std::ptr::eq(hub.numbered(number).unwrap(), by_pattern), "{on}");
    }
}

#[test]
fn a_late_answer_is_not_taken_for_the_answer_to_a_later_join() {
    let (mut hub, a, b) = (Hub::default(), subscriber(0), subscriber(1));
    assert!(hub.join(&a, subscribe(0, "x", 0, None)));
    assert_eq!(
        hub.leave(&a, SubscriptionId(0)),
        None,
        "the lane is not told to leave before it has answered"
    );
    assert!(!hub.join(&b, subscribe(0, "x", 0, None)), "so its answer is good for whoever joins meanwhile");
    assert_eq!(names(&hub.joined(&pattern("x"), format(0))), [(1, 0)]);
}

#[test]
fn members_that_the_lane_refuses_can_leave_in_any_order() {
    let (mut hub, a, b, c) = (Hub::default(), subscriber(0), subscriber(1), subscriber(2));
    hub.join(&a, subscribe(0, "x", 0, None));
    hub.join(&b, subscribe(0, "x", 0, None));
    assert_eq!(names(&hub.join_failed(&pattern("x"), format(0))), [(0, 0), (1, 0)]);
    assert_eq!(names(&hub.joined(&pattern("x"), format(0))), [], "they are not waiting any more");
    hub.go_live(&a, SubscriptionId(0));
    assert_eq!(hub.leave(&a, SubscriptionId(0)), Some(pattern("x")));
    assert!(hub.join(&c, subscribe(0, "x", 0, None)));
    assert_eq!(hub.leave(&b, SubscriptionId(0)), None, "somebody else wants it by now");
    assert_eq!(names(&hub.joined(&pattern("x"), format(0))), [(2, 0)]);
}

#[test]
fn only_the_held_go_live() {
    let (mut hub, a) = (Hub::default(), subscriber(0));
    hub.join(&a, subscribe(0, "x", 0, None));
    let place = || a.with_member(SubscriptionId(0), |member| member.state);
    hub.go_live(&a, SubscriptionId(0));
    assert_eq!(place(), Some(MemberState::Joining));
    hub.joined(&pattern("x"), format(0));
    assert_eq!(place(), Some(MemberState::Held(0)));
    hub.go_live(&a, SubscriptionId(0));
    hub.go_live(&a, SubscriptionId(0));
    assert_eq!(place(), Some(MemberState::Live(0)));
    hub.go_live(&a, SubscriptionId(9));
    assert_eq!(names(&hub.members(&pattern("x"))), [(0, 0)]);
}
