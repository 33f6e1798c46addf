//! The items of a feed, for any order of joins, leaves, losses and messages.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::lane::encoder::CompressionSettings;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::class::fields::parse_path;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::RouteId;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::renderers::Renderers;

fn format(route: u16) -> Format {
    Format { vocabulary: VocabularyId::NATIVE, route: RouteId(route), encoding: Encoding::JSON }
}

fn of_shard(shard: usize) -> ShardTopic {
    ShardTopic { shard: ShardIndex(shard), topic: TopicId::default() }
}

fn feed(class: Class, now: Instant) -> Feed {
    let pattern = class.pattern.clone();
    let now = (now, SystemTime::UNIX_EPOCH);
    Feed::new(pattern, Arc::new(class), false, ValueLimits { count: 10, bytes: 1000 }, now)
}

/// The items that `act` produces.
fn outgoing_of(act: impl FnOnce(&mut Vec<ShardItem>)) -> Vec<ShardItem> {
    let mut outgoing = Vec::new();
    act(&mut outgoing);
    outgoing
}

pub(in crate::lane) fn encoder() -> Encoder {
    Encoder::new(Renderers::default(), CompressionSettings { min_bytes: 256, level: 1 })
}

fn plain() -> Class {
    Class::plain(Pattern::parse("chat.a").unwrap())
}

fn error() -> ClientError {
    ClientError::new(ErrorCode::Unavailable, "later")
}

/// Each item's shard, and a description.
fn describe(addressed: &[ShardItem]) -> Vec<(usize, String)> {
    let description = |item: &Item| match item {
        Item::Joined { snapshot, stale, .. } => {
            format!("joined {} {}", snapshot.deliveries.len(), stale.is_some())
        }
        Item::JoinFailed { .. } => "unjoined".to_owned(),
        Item::Recovered { answer, .. } => format!("recovered {}", answer.recovery.messages.iter().len()),
        Item::Publication { frames, .. } => format!("publication {}", frames.len()),
        Item::Elements { elements, .. } => format!("elements {}", elements.list.len()),
        Item::Unrenderable { .. } => "unrenderable".to_owned(),
        Item::Gap { cause, dropped, .. } => format!("lost {} {dropped:?}", cause.name()),
        Item::Stale { .. } => "stale".to_owned(),
    };
    addressed.iter().map(|addressed| (addressed.shard.0, description(&addressed.item))).collect()
}

fn answer(act: impl FnOnce(&mut Vec<ShardItem>)) -> Vec<(usize, String)> {
    describe(&outgoing_of(act))
}

fn to_shard(shard: usize, description: &str) -> (usize, String) {
    (shard, description.to_owned())
}

#[test]
fn waiting_shards_are_answered_when_the_feed_opens_and_refused_if_it_cannot() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut feed = feed(plain(), start);
    assert!(feed.join(of_shard(0), format(0), &Renderers::default(), start).is_none());
    assert_eq!(answer(|outgoing| feed.refuse(&error(), at(5), outgoing)), [to_shard(0, "unjoined")]);
    assert!(feed.join(of_shard(1), format(0), &Renderers::default(), at(6)).is_none());
    assert!(!feed.is_idle(Duration::ZERO, at(1_000_000)), "however long that takes");
    assert_eq!(
        answer(|outgoing| feed.opened(&Renderers::default(), at(7), outgoing)),
        [to_shard(1, "joined 0 false")]
    );
}

fn at(start: Instant, seconds: u64) -> (Instant, SystemTime) {
    (start + Duration::from_secs(seconds), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[test]
fn a_shard_gets_publications_from_its_join_to_its_leave() {
    let start = Instant::now();
    let mut feed = feed(plain(), start);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    assert_eq!(
        answer(|outgoing| feed
            .publish(&Message::plain("chat.a", b"1"), at(start, 1), &mut encoder(), outgoing)
            .unwrap()),
        []
    );
    let joined = feed.join(of_shard(0), format(0), &Renderers::default(), start);
    assert_eq!(describe(joined.as_slice()), [to_shard(0, "joined 0 false")]);
    feed.join(of_shard(1), format(0), &Renderers::default(), start);
    feed.join(of_shard(1), format(1), &Renderers::default(), start);
    feed.join(of_shard(1), format(1), &Renderers::default(), start);
    let publication = outgoing_of(|outgoing| {
        feed.publish(&Message::plain("chat.a", b"2"), at(start, 2), &mut encoder(), outgoing).unwrap()
    });
    assert_eq!(describe(&publication), [to_shard(0, "publication 1"), to_shard(1, "publication 2")]);
    feed.leave(ShardIndex(0), start);
    let publication = outgoing_of(|outgoing| {
        feed.publish(&Message::plain("chat.a", b"3"), at(start, 3), &mut encoder(), outgoing).unwrap()
    });
    assert_eq!(describe(&publication), [to_shard(1, "publication 2")]);
    feed.leave(ShardIndex(1), start);
    assert_eq!(
        answer(|outgoing| feed
            .publish(&Message::plain("chat.a", b"4"), at(start, 4), &mut encoder(), outgoing)
            .unwrap()),
        []
    );
}

#[test]
fn nat_03_a_lost_link_is_one_gap_until_a_message_or_a_join() {
    let start = Instant::now();
    let mut feed = feed(plain(), start);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    feed.join(of_shard(0), format(0), &Renderers::default(), start);
    assert_eq!(answer(|outgoing| feed.link_lost(outgoing)), [to_shard(0, "lost nats None")]);
    assert_eq!(answer(|outgoing| feed.link_lost(outgoing)), [], "nothing has come since");
    assert!(
        feed.join(of_shard(1), format(0), &Renderers::default(), start).is_none(),
        "the server does not know the subscription"
    );
    assert_eq!(
        answer(|outgoing| feed.opened(&Renderers::default(), start, outgoing)),
        [to_shard(1, "joined 0 false")]
    );
    assert_eq!(
        answer(|outgoing| feed.link_lost(outgoing)),
        [to_shard(0, "lost nats None"), to_shard(1, "lost nats None")]
    );
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    outgoing_of(|outgoing| {
        feed.publish(&Message::plain("chat.a", b"1"), at(start, 1), &mut encoder(), outgoing).unwrap()
    });
    assert_eq!(
        answer(|outgoing| feed.link_lost(outgoing)),
        [to_shard(0, "lost nats None"), to_shard(1, "lost nats None")]
    );
}

#[test]
fn a_gap_with_a_count_does_not_replace_one_without() {
    let start = Instant::now();
    let mut feed = feed(plain(), start);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    feed.join(of_shard(0), format(0), &Renderers::default(), start);
    assert_eq!(
        answer(|outgoing| feed.gap(GapCause::Overflow, Some(3), None, outgoing)),
        [to_shard(0, "lost overflow Some(3)")]
    );
    assert_eq!(answer(|outgoing| feed.link_lost(outgoing)), [to_shard(0, "lost nats None")]);
    assert_eq!(
        answer(|outgoing| feed.gap(GapCause::Overflow, Some(2), None, outgoing)),
        [to_shard(0, "lost overflow Some(2)")]
    );
    assert_eq!(answer(|outgoing| feed.link_lost(outgoing)), [], "the gap before it stands for this one too");
}

#[test]
fn nat_09_a_malformed_requested_header_affects_only_its_own_message() {
    let start = Instant::now();
    let mut feed = feed(Class { headers: vec!["a".to_owned()], snapshot: true, ..plain() }, start);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    feed.join(of_shard(0), format(0), &Renderers::default(), start);
    let mut publish = |headers: &[u8]| {
        let (message, mut outgoing) = (Message::with_headers("chat.a", headers, b"1"), Vec::new());
        feed.publish(&message, at(start, 1), &mut encoder(), &mut outgoing).map(|()| describe(&outgoing))
    };
    for headers in [&b"NATS/1.0\r\na: \xff\r\n\r\n"[..], b"NATS/1.0\r\nTidegate-Key: \xff\r\n\r\n"] {
        assert_eq!(publish(headers), Err(Malformed));
    }
    let published = Ok(vec![to_shard(0, "publication 1")]);
    for headers in [&b"NATS/1.0\r\nb: \xff\r\n\r\n"[..], b"NATS/1.0 x\r\nno colon\r\nbad name: 1\r\n\r\n"] {
        assert_eq!(publish(headers), published);
    }
    let snapshot = |feed: &Feed| feed.snapshot(format(0), &Renderers::default(), start).deliveries.len();
    assert_eq!(snapshot(&feed), 1, "what cannot be shown is not kept");
}

/// The last values that a shard gets that joins now.
fn shown(feed: &Feed) -> usize {
    feed.snapshot(format(0), &Renderers::default(), Instant::now()).deliveries.len()
}

#[test]
fn values_from_before_a_lost_link_are_forgotten_even_without_subscribers() {
    let start = Instant::now();
    let mut feed = feed(Class { snapshot: true, ..plain() }, start);
    let publish = |feed: &mut Feed| {
        outgoing_of(|outgoing| {
            feed.publish(&Message::plain("chat.a", b"1"), at(start, 1), &mut encoder(), outgoing).unwrap()
        })
    };
    let last = |feed: &Feed| feed.last(start).map(Iterator::count);
    assert_eq!(last(&feed), Some(0), "it has only begun");
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    publish(&mut feed);
    assert_eq!((shown(&feed), last(&feed)), (1, Some(1)));
    assert_eq!(answer(|outgoing| feed.link_lost(outgoing)), []);
    assert_eq!((shown(&feed), last(&feed)), (0, None), "a newer one may pass by");
    // Messages after the reconnect are newer, and earlier ones may be missing.
    publish(&mut feed);
    assert_eq!(last(&feed), None);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    assert_eq!((shown(&feed), last(&feed)), (1, Some(1)));
}

#[test]
fn a_value_is_forgotten_when_the_next_one_of_its_subject_is_malformed() {
    let start = Instant::now();
    let class = Class { snapshot: true, ..Class::plain(Pattern::parse("prices.*").unwrap()) };
    let mut feed = feed(class, start);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    for subject in ["prices.A", "prices.B"] {
        outgoing_of(|outgoing| {
            feed.publish(&Message::plain(subject, b"1"), at(start, 1), &mut encoder(), outgoing).unwrap()
        });
    }
    outgoing_of(|outgoing| feed.undelivered(GapCause::Malformed, "prices.A", outgoing));
    let kept: Vec<_> = feed.last(start).unwrap().map(|publication| publication.subject.to_string()).collect();
    assert_eq!(kept, ["prices.B"]);
}

#[test]
fn a_key_does_not_replace_the_value_of_another_subject_unless_the_class_says_so() {
    let start = Instant::now();
    for (key_scope, expected) in [
        (KeyScope::Subject, vec!["prices.A", "prices.mine prices.A", "prices.mine k"]),
        (KeyScope::Channel, vec!["prices.A", "k"]),
    ] {
        let pattern = Pattern::parse("prices.*").unwrap();
        let mut feed = feed(Class { snapshot: true, key_scope, ..Class::plain(pattern) }, start);
        outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
        for headers in ["", "Tidegate-Key: prices.A", "tidegate-key: k"] {
            let subject = if headers.is_empty() { "prices.A" } else { "prices.mine" };
            let block = format!("NATS/1.0\r\n{headers}\r\n\r\n");
            let message = Message::with_headers(subject, block.as_bytes(), b"1");
            outgoing_of(|outgoing| feed.publish(&message, at(start, 1), &mut encoder(), outgoing).unwrap());
        }
        let kept: Vec<_> = feed.last(start).unwrap().map(|publication| publication.key.to_string()).collect();
        assert_eq!(kept, expected);
        outgoing_of(|outgoing| feed.undelivered(GapCause::Malformed, "prices.mine", outgoing));
        let left = if key_scope == KeyScope::Subject { 1 } else { 0 };
        assert_eq!(feed.last(start).unwrap().count(), left, "its key is unknown");
    }
}

#[test]
fn a_publication_has_the_priority_of_its_header_its_payload_or_its_class() {
    let start = Instant::now();
    let fields = PayloadFields::new(None, parse_path("data.priority"));
    for (fields, headers, payload, expected) in [
        (None, "", r#"{"priority":"high"}"#, Priority::Low),
        (None, "tidegate-priority: high", "1", Priority::High),
        (None, "Tidegate-Priority: \u{fffd}", "1", Priority::Low),
        (fields.clone(), "", r#"{"priority":"critical"}"#, Priority::High),
        (fields.clone(), "", "1", Priority::Normal),
        (fields, "Tidegate-Priority: normal", r#"{"priority":"high"}"#, Priority::Normal),
    ] {
        let mut feed = feed(Class { fields, priority: Priority::Low, ..plain() }, start);
        outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
        feed.join(of_shard(0), format(0), &Renderers::default(), start);
        let block = format!("NATS/1.0\r\n{headers}\r\n\r\n");
        // A header that is not UTF-8 counts as absent.
        let block: Vec<u8> =
            block.into_bytes().into_iter().map(|byte| if byte == 0xef { 0xff } else { byte }).collect();
        let message = Message::with_headers("chat.a", &block, payload.as_bytes());
        let published =
            outgoing_of(|outgoing| feed.publish(&message, at(start, 1), &mut encoder(), outgoing).unwrap());
        let Item::Publication { priority, .. } = &published[0].item else { panic!("{headers}") };
        assert_eq!(*priority, expected, "{headers} {payload}");
    }
}

#[test]
fn publications_have_the_number_of_the_shards_last_join() {
    let start = Instant::now();
    let mut feed = feed(plain(), start);
    let topic = |number| TopicId { place: 0, number };
    let join = |feed: &mut Feed, route, number| {
        let of_shard = ShardTopic { shard: ShardIndex(0), topic: topic(number) };
        feed.join(of_shard, format(route), &Renderers::default(), start);
    };
    join(&mut feed, 0, 1);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    let published = |feed: &mut Feed| {
        let message = Message::plain("chat.a", b"1");
        let made = outgoing_of(|made| feed.publish(&message, at(start, 1), &mut encoder(), made).unwrap());
        let Item::Publication { topic, .. } = made[0].item else { panic!("{:?}", made[0].item) };
        topic
    };
    assert_eq!(published(&mut feed), topic(1), "it waited for the feed to open");
    // The shard has left and joined again, but the lane was told only of the join.
    join(&mut feed, 1, 2);
    assert_eq!(published(&mut feed), topic(2), "also in the format of the first join");
}

#[test]
fn pan_01_a_panic_while_encoding_is_a_gap_of_one() {
    let start = Instant::now();
    let mut feed = feed(plain(), start);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    feed.join(of_shard(0), format(0), &Renderers::default(), start);
    let lost = outgoing_of(|outgoing| {
        feed.publish(
            &Message::plain("chat.a", b"\"panic in encode\""),
            at(start, 1),
            &mut encoder(),
            outgoing,
        )
        .unwrap()
    });
    assert_eq!(describe(&lost), [to_shard(0, "lost internal Some(1)")]);
    assert_eq!(answer(|outgoing| feed.link_lost(outgoing)), [to_shard(0, "lost nats None")]);
}

#[test]
fn the_last_values_come_with_the_join_while_they_are_fresh() {
    let start = Instant::now();
    let pattern = Pattern::parse("prices.*").unwrap();
    let max_age = Some(Duration::from_secs(10));
    let mut feed = feed(Class { snapshot: true, max_age, ..Class::plain(pattern) }, start);
    for (seconds, subject) in [(1, "prices.A"), (2, "prices.B"), (3, "prices.A")] {
        outgoing_of(|outgoing| {
            feed.publish(&Message::plain(subject, b"1"), at(start, seconds), &mut encoder(), outgoing)
                .unwrap()
        });
    }
    assert!(
        feed.join(of_shard(0), format(0), &Renderers::default(), at(start, 4).0).is_none(),
        "it is not open"
    );
    assert_eq!(
        answer(|outgoing| feed.opened(&Renderers::default(), at(start, 4).0, outgoing)),
        [to_shard(0, "joined 2 false")]
    );
    let joined = |feed: &mut Feed, seconds| {
        feed.join(of_shard(1), format(0), &Renderers::default(), at(start, seconds).0)
    };
    assert_eq!(describe(joined(&mut feed, 12).as_slice()), [to_shard(1, "joined 1 false")]);
    assert_eq!(describe(joined(&mut feed, 13).as_slice()), [to_shard(1, "joined 0 false")]);
}

#[test]
fn staleness_is_reported_once_and_to_later_joins() {
    let start = Instant::now();
    let stale_after = Some(Duration::from_secs(5));
    let mut feed = feed(Class { stale_after, ..plain() }, start);
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    feed.join(of_shard(0), format(0), &Renderers::default(), start);
    assert_eq!(answer(|outgoing| feed.check_stale(at(start, 4).0, outgoing)), []);
    assert_eq!(answer(|outgoing| feed.check_stale(at(start, 5).0, outgoing)), [to_shard(0, "stale")]);
    assert_eq!(answer(|outgoing| feed.check_stale(at(start, 6).0, outgoing)), []);
    assert_eq!(
        describe(feed.join(of_shard(1), format(0), &Renderers::default(), at(start, 6).0).as_slice()),
        [to_shard(1, "joined 0 true")]
    );
    outgoing_of(|outgoing| {
        feed.publish(&Message::plain("chat.a", b"1"), at(start, 7), &mut encoder(), outgoing).unwrap()
    });
    assert_eq!(answer(|outgoing| feed.check_stale(at(start, 11).0, outgoing)), []);
    assert_eq!(
        answer(|outgoing| feed.check_stale(at(start, 12).0, outgoing)),
        [to_shard(0, "stale"), to_shard(1, "stale")]
    );
}

#[test]
fn a_feed_is_idle_from_when_the_last_shard_left() {
    let start = Instant::now();
    let linger = Duration::from_secs(5);
    let idle = |feed: &Feed, seconds| feed.is_idle(linger, at(start, seconds).0);
    let mut feed = feed(plain(), start);
    assert!(!idle(&feed, 4) && idle(&feed, 5), "no shard has ever wanted it");
    feed.join(of_shard(0), format(0), &Renderers::default(), start);
    assert!(!idle(&feed, 100), "a shard waits for it");
    outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing));
    feed.join(of_shard(1), format(0), &Renderers::default(), start);
    feed.leave(ShardIndex(0), at(start, 10).0);
    assert!(!idle(&feed, 100) && !feed.needs_sweep());
    feed.leave(ShardIndex(1), at(start, 20).0);
    feed.leave(ShardIndex(1), at(start, 24).0);
    assert!(feed.needs_sweep() && !idle(&feed, 24) && idle(&feed, 25), "a repeated leave changes nothing");
    feed.join(of_shard(1), format(0), &Renderers::default(), at(start, 24).0);
    assert!(!idle(&feed, 100), "it is wanted again");
}

#[derive(Clone, Debug)]
enum Event {
    Join { shard: usize, route: u16 },
    Leave { shard: usize },
    Opened,
    LinkLost,
    Dropped(u64),
    Refuse,
    Publish,
}

fn event() -> impl Strategy<Value = Event> {
    let (shard, route) = (0..3_usize, 0..2_u16);
    prop_oneof![
        4 => (shard.clone(), route).prop_map(|(shard, route)| Event::Join { shard, route }),
        2 => shard.prop_map(|shard| Event::Leave { shard }),
        2 => Just(Event::Opened),
        1 => Just(Event::LinkLost),
        1 => (1..9_u64).prop_map(Event::Dropped),
        1 => Just(Event::Refuse),
        6 => Just(Event::Publish),
    ]
}

/// The shards that wait and those that read, in the order in which they joined.
#[derive(Default)]
struct NaiveFeed {
    open: bool,
    waiting: Vec<(usize, u16)>,
    reading: Vec<(usize, Vec<u16>)>,
    gap_reported: bool,
}

impl NaiveFeed {
    fn apply(&mut self, event: &Event) -> Vec<(usize, String)> {
        match event {
            Event::Join { shard, route } if self.open => vec![self.join(*shard, *route)],
            Event::Join { shard, route } => {
                self.waiting.push((*shard, *route));
                Vec::new()
            }
            Event::Leave { shard } => {
                self.waiting.retain(|(waits, _)| waits != shard);
                self.reading.retain(|(reads, _)| reads != shard);
                Vec::new()
            }
            Event::Opened => {
                self.open = true;
                let waiting = std::mem::take(&mut self.waiting);
                waiting.into_iter().map(|(shard, route)| self.join(shard, route)).collect()
            }
            Event::LinkLost => {
                self.open = false;
                let news = !std::mem::replace(&mut self.gap_reported, true);
                if news { self.to_all(|_| "lost nats None".to_owned()) } else { Vec::new() }
            }
            Event::Dropped(count) => self.to_all(|_| format!("lost overflow Some({count})")),
            Event::Refuse => {
                let waiting = std::mem::take(&mut self.waiting);
                waiting.into_iter().map(|(shard, _)| to_shard(shard, "unjoined")).collect()
            }
            Event::Publish => {
                self.gap_reported = false;
                self.to_all(|routes| format!("publication {}", routes.len()))
            }
        }
    }

    fn join(&mut self, shard: usize, route: u16) -> (usize, String) {
        self.gap_reported = false;
        match self.reading.iter_mut().find(|(reads, _)| *reads == shard) {
            Some((_, routes)) if routes.contains(&route) => {}
            Some((_, routes)) => routes.push(route),
            None => self.reading.push((shard, vec![route])),
        }
        to_shard(shard, "joined 0 false")
    }

    fn to_all(&self, description: impl Fn(&[u16]) -> String) -> Vec<(usize, String)> {
        self.reading.iter().map(|(shard, routes)| (*shard, description(routes))).collect()
    }
}

proptest! {
    #[test]
    fn in_any_order_every_shard_gets_what_it_has_asked_for(events in vec(event(), 0..60)) {
        let start = Instant::now();
        let (mut feed, mut naive) = (feed(plain(), start), NaiveFeed::default());
        for event in events {
            let answer = match &event {
                Event::Join { shard, route } => {
                    feed.join(of_shard(*shard), format(*route), &Renderers::default(), start).into_iter().collect()
                }
                Event::Leave { shard } => {
                    feed.leave(ShardIndex(*shard), start);
                    Vec::new()
                }
                Event::Opened => outgoing_of(|outgoing| feed.opened(&Renderers::default(), start, outgoing)),
                Event::LinkLost => outgoing_of(|outgoing| feed.link_lost(outgoing)),
                Event::Dropped(count) => outgoing_of(|outgoing| feed.gap(GapCause::Overflow, Some(*count), None, outgoing)),
                Event::Refuse => outgoing_of(|outgoing| feed.refuse(&error(), start, outgoing)),
                Event::Publish => outgoing_of(|outgoing| feed.publish(&Message::plain("chat.a", b"1"), at(start, 1), &mut encoder(), outgoing).unwrap()),
            };
            prop_assert_eq!(describe(&answer), naive.apply(&event), "{:?}", event);
            let wanted = !naive.reading.is_empty() || !naive.waiting.is_empty();
            prop_assert_eq!(feed.is_idle(Duration::ZERO, at(start, 1).0), !wanted);
        }
    }
}
