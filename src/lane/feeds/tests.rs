//! Each channel gets what a NATS subscription of its own would bring, whether or not it shares one.

mod model;

use std::cell::Cell;
use std::hash::Hasher;

use super::*;
use tidegate_protocol::class::Classes;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::RouteId;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::renderers::Renderers;

use crate::lane::feed::tests::encoder;
use crate::lane::inbox::Item;
use crate::nats::incoming::SubscriptionKey;

const LIMITS: ValueLimits = ValueLimits { count: 10, bytes: 1000 };
const OVERLAPPING: usize = 64;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn class(text: &str, feed: FeedBy) -> Class {
    Class { feed, ..Class::plain(pattern(text)) }
}

fn format() -> Format {
    Format { vocabulary: VocabularyId::NATIVE, route: RouteId(0), encoding: Encoding::JSON }
}

fn error() -> ClientError {
    ClientError::new(ErrorCode::Forbidden, "no")
}

/// A table of feeds, and the subscriptions that a NATS connection would have.
struct TestFeeds {
    classes: Classes,
    feeds: Feeds<u32>,
    /// The subscriptions, by key; `None` once they have ended.
    made: Vec<Option<Pattern>>,
    start: Instant,
}

impl TestFeeds {
    fn new(classes: Vec<Class>) -> Self {
        Self::overlapping(classes, OVERLAPPING, &[])
    }

    fn overlapping(classes: Vec<Class>, most: usize, reserved: &[&str]) -> Self {
        let reserved = Arc::new(reserved.iter().map(|channel| pattern(channel)).collect());
        let (classes, feeds) = (
            Classes::new(classes),
            Feeds::new(
                FeedLimits { values: LIMITS, delivery_max: 100, overlapping: most, reserved },
                Renderers::default(),
            ),
        );
        Self { classes, feeds, made: Vec::new(), start: Instant::now() }
    }

    /// The time so many seconds after the start.
    fn at(&self, seconds: u64) -> (Instant, SystemTime) {
        let after = Duration::from_secs(seconds);
        (self.start + after, SystemTime::UNIX_EPOCH + after)
    }

    fn join(&mut self, shard: usize, channel: &str) -> Vec<String> {
        let pattern = pattern(channel);
        let join = Join {
            shard: ShardIndex(shard),
            topic: TopicId::default(),
            class: self.classes.of(&pattern),
            pattern,
            format: format(),
        };
        let (now, made) = (self.at(0), &mut self.made);
        let mut outgoing = Vec::new();
        let subscribe = |pattern: &Pattern| {
            made.push(Some(pattern.clone()));
            u32::try_from(made.len() - 1).unwrap()
        };
        self.feeds.join(join, now, subscribe, &mut outgoing);
        describe(&outgoing)
    }

    fn outgoing_of(
        &mut self,
        act: impl FnOnce(&mut Feeds<u32>, (Instant, SystemTime), &mut Vec<ShardItem>),
    ) -> Vec<String> {
        let mut outgoing = Vec::new();
        let now = self.at(0);
        act(&mut self.feeds, now, &mut outgoing);
        describe(&outgoing)
    }

    fn opened(&mut self, key: u32) -> Vec<String> {
        self.outgoing_of(|feeds, now, outgoing| feeds.opened(key, now.0, outgoing))
    }

    fn message(&mut self, key: u32, subject: &str) -> Vec<String> {
        self.outgoing_of(|feeds, now, outgoing| {
            feeds.publish(key, &Message::plain(subject, b"1"), now, &mut encoder(), outgoing).unwrap()
        })
    }

    fn malformed(&mut self, key: u32) -> Vec<String> {
        self.outgoing_of(|feeds, _, outgoing| feeds.malformed(key, outgoing))
    }

    fn interrupted(&mut self, key: u32) -> Vec<String> {
        self.outgoing_of(|feeds, _, outgoing| feeds.interrupted(key, outgoing))
    }

    fn leave(&mut self, shard: usize, channel: &str, seconds: u64) {
        let now = self.at(seconds).0;
        self.feeds.leave(ShardIndex(shard), &pattern(channel), now);
    }

    /// Removes feeds that no shard has wanted for 5 seconds.
    fn sweep(&mut self, seconds: u64) -> Vec<u32> {
        let now = self.at(seconds).0;
        let ended = self.feeds.sweep(Duration::from_secs(5), now, |_| true, &mut Vec::new());
        ended.iter().for_each(|&key| self.made[usize::try_from(key).unwrap()] = None);
        ended
    }

    fn subscribed(&self) -> Vec<&str> {
        self.made.iter().flatten().map(Pattern::as_str).collect()
    }
}

/// A description of each item, sorted.
fn describe(addressed: &[ShardItem]) -> Vec<String> {
    let description = |ShardItem { shard, item }: &ShardItem| match item {
        Item::Joined { pattern, .. } => format!("{shard} joined {pattern}"),
        Item::JoinFailed { pattern, error, .. } => format!("{shard} {} {pattern}", error.code.name()),
        Item::Recovered { pattern, .. } => format!("{shard} recovered {pattern}"),
        Item::Publication { pattern, .. } => format!("{shard} publication {pattern}"),
        Item::Elements { pattern, .. } => format!("{shard} elements {pattern}"),
        Item::Unrenderable { pattern, .. } => format!("{shard} unrenderable {pattern}"),
        Item::Gap { pattern, dropped, .. } => format!("{shard} lost {pattern} {dropped:?}"),
        Item::Stale { pattern, .. } => format!("{shard} stale {pattern}"),
    };
    let mut descriptions: Vec<_> = addressed.iter().map(description).collect();
    descriptions.sort();
    descriptions
}

fn notes() -> TestFeeds {
    TestFeeds::new(vec![class("user.*.notes", FeedBy::Pattern), class("user.admin.notes", FeedBy::Subject)])
}

#[test]
fn the_channels_of_a_class_share_one_subscription_and_get_only_their_own_messages() {
    let mut table = notes();
    for (shard, channel) in [(0, "user.a.notes"), (1, "user.b.notes"), (1, "user.*.notes")] {
        assert!(table.join(shard, channel).is_empty(), "{channel} waits");
    }
    table.join(0, "user.admin.notes");
    assert_eq!(table.subscribed(), ["user.*.notes", "user.admin.notes"]);
    let joined = ["0 joined user.a.notes", "1 joined user.*.notes", "1 joined user.b.notes"];
    assert_eq!(table.opened(0), joined);
    assert_eq!(table.join(0, "user.c.notes"), ["0 joined user.c.notes"], "it is open");
    assert_eq!(table.opened(1), ["0 joined user.admin.notes"]);
    for (subject, outgoing) in [
        ("user.a.notes", &["0 publication user.a.notes", "1 publication user.*.notes"][..]),
        ("user.b.notes", &["1 publication user.*.notes", "1 publication user.b.notes"]),
        ("user.other.notes", &["1 publication user.*.notes"]),
        ("user.admin.notes", &["1 publication user.*.notes"]),
        ("user.*.notes", &["1 publication user.*.notes"]),
    ] {
        assert_eq!(table.message(0, subject), outgoing, "{subject}");
    }
    assert_eq!(table.message(1, "user.admin.notes"), ["0 publication user.admin.notes"]);
}

#[test]
fn a_narrower_wildcard_has_a_subscription_of_its_own() {
    let mut table = TestFeeds::new(vec![class("user.>", FeedBy::Pattern)]);
    for channel in ["user.a.x", "user.a.>", "user.*.x"] {
        table.join(0, channel);
    }
    assert_eq!(table.subscribed(), ["user.>", "user.a.>", "user.*.x"]);
    (0..3).for_each(|key| drop(table.opened(key)));
    let outgoing: Vec<_> = (0..3).map(|key| table.message(key, "user.a.x")).collect();
    let once = ["user.a.x", "user.a.>", "user.*.x"].map(|channel| vec![format!("0 publication {channel}")]);
    assert_eq!(outgoing, once);
}

#[test]
fn subjects_without_a_feed_leave_nothing_behind() {
    let mut table = notes();
    table.join(0, "user.a.notes");
    table.opened(0);
    for subject in ["user.b.notes", "user.c.notes", "user.*.notes"] {
        assert!(table.message(0, subject).is_empty());
    }
    assert!(table.message(7, "user.a.notes").is_empty(), "there is no such subscription");
    assert_eq!((table.feeds.entries.len(), table.feeds.by_pattern.len()), (1, 1));
}

#[test]
fn losing_a_shared_subscription_is_a_gap_of_unknown_size_on_each_channel() {
    let mut table = notes();
    for channel in ["user.a.notes", "user.b.notes", "user.admin.notes"] {
        table.join(0, channel);
    }
    (0..2).for_each(|key| drop(table.opened(key)));
    assert_eq!(table.interrupted(0), ["0 lost user.a.notes None", "0 lost user.b.notes None"]);
    table.opened(0);
    table.message(0, "user.b.notes");
    assert_eq!(table.interrupted(0), ["0 lost user.b.notes None"], "a has received nothing since its gap");
    let outgoing = table.outgoing_of(|feeds, _, outgoing| feeds.link_lost(outgoing));
    assert_eq!(outgoing, ["0 lost user.admin.notes None"]);
    assert!(table.join(1, "user.a.notes").is_empty(), "the server does not know the subscription");
    assert!(table.join(1, "user.c.notes").is_empty(), "nor for a new channel");
    assert_eq!(table.opened(0), ["1 joined user.a.notes", "1 joined user.c.notes"]);
}

#[test]
fn nat_09_a_malformed_message_is_a_gap_on_each_of_its_channels() {
    let mut table = notes();
    for channel in ["user.a.notes", "user.*.notes", "user.b.notes"] {
        table.join(0, channel);
    }
    table.opened(0);
    assert_eq!(table.malformed(0), ["0 lost user.*.notes Some(1)"], "no channel that is a single subject");
    let outgoing = table.outgoing_of(|feeds, now, outgoing| {
        let message = Message::with_headers("user.a.notes", b"NATS/1.0\r\nTidegate-Key: \xff\r\n\r\n", b"1");
        assert!(feeds.publish(0, &message, now, &mut encoder(), outgoing).is_err());
    });
    assert_eq!(outgoing, ["0 lost user.*.notes Some(1)", "0 lost user.a.notes Some(1)"]);
}

#[test]
fn a_denied_subscription_refuses_all_who_wait_and_is_tried_again() {
    let mut table = notes();
    for channel in ["user.a.notes", "user.b.notes"] {
        table.join(0, channel);
    }
    let outgoing =
        table.outgoing_of(|feeds, now, outgoing| feeds.failed(0, &error(), now.0, |_| (), outgoing));
    assert_eq!(outgoing, ["0 forbidden user.a.notes", "0 forbidden user.b.notes"]);
    assert!(!table.feeds.has(0) && table.feeds.entries.is_empty());
    table.join(0, "user.a.notes");
    assert_eq!(table.opened(1), ["0 joined user.a.notes"]);
}

thread_local! {
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// The key of a subscription, which counts how often it is compared.
#[derive(Clone, Copy, Eq, Debug)]
struct CountingKey(usize);

impl PartialEq for CountingKey {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

impl Hash for CountingKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

#[test]
fn a_refused_subscription_costs_no_look_at_the_feeds_of_others() {
    let limits = notes().feeds.limits;
    let (mut feeds, mut outgoing) = (Feeds::new(limits, Renderers::default()), Vec::new());
    let now = (Instant::now(), SystemTime::UNIX_EPOCH);
    for number in 0..200 {
        let (shard, pattern) = (ShardIndex(0), pattern(&format!("user.{number}")));
        let join = Join {
            shard,
            topic: TopicId::default(),
            class: Arc::new(Class::plain(pattern.clone())),
            pattern,
            format: format(),
        };
        feeds.join(join, now, |_| CountingKey(number), &mut outgoing);
    }
    COMPARED.set(0);
    (0..200).for_each(|number| feeds.failed(CountingKey(number), &error(), now.0, |_| (), &mut outgoing));
    assert_eq!((outgoing.len(), feeds.entries.len()), (200, 0));
    assert!(COMPARED.get() < 10 * 200, "{} comparisons", COMPARED.get());
}

#[test]
fn the_shared_subscription_ends_when_its_last_channel_has_lingered() {
    let mut table = notes();
    for channel in ["user.a.notes", "user.b.notes", "user.*.notes"] {
        table.join(0, channel);
    }
    table.opened(0);
    table.leave(0, "user.*.notes", 10);
    table.leave(0, "user.a.notes", 10);
    assert!(table.sweep(15).is_empty(), "b is there");
    assert_eq!(table.feeds.entries.len(), 1);
    assert_eq!(table.message(0, "user.b.notes"), ["0 publication user.b.notes"]);
    table.leave(0, "user.b.notes", 20);
    assert!(table.sweep(24).is_empty(), "it lingers");
    assert_eq!(table.sweep(25), [0]);
    assert_eq!(table.subscribed(), [""; 0]);
    table.join(0, "user.a.notes");
    assert_eq!(table.subscribed(), ["user.*.notes"]);
}

#[test]
fn feeds_are_swept_only_while_one_may_end_or_become_stale() {
    let mut table = notes();
    table.join(0, "user.a.notes");
    table.opened(0);
    assert!(!table.feeds.needs_sweep(), "it is wanted, and its class has no stale_after_ms");
    table.leave(0, "user.a.notes", 10);
    table.sweep(12);
    assert!(table.feeds.needs_sweep(), "it lingers");
    table.sweep(15);
    assert!(!table.feeds.needs_sweep());
}

#[test]
fn a_feed_stays_small() {
    let bytes = size_of::<FeedEntry<SubscriptionKey>>();
    assert!(bytes <= 144, "{bytes} bytes for each subject in use");
}

#[test]
fn a_message_that_is_too_large_is_one_gap_on_each_channel_it_was_for() {
    let mut table = notes();
    for channel in ["user.a.notes", "user.b.notes", "user.*.notes", "user.admin.notes"] {
        table.join(0, channel);
    }
    table.opened(0);
    table.opened(1);
    let mut message = |key: u32, subject: &str, size: usize| {
        let message = Message::plain(subject, &vec![b'1'; size]);
        table.outgoing_of(|feeds, now, outgoing| {
            feeds.publish(key, &message, now, &mut encoder(), outgoing).unwrap()
        })
    };
    assert_eq!(message(0, "user.a.notes", 100).len(), 2);
    assert_eq!(
        message(0, "user.a.notes", 101),
        ["0 lost user.*.notes Some(1)", "0 lost user.a.notes Some(1)"]
    );
    assert_eq!(message(1, "user.admin.notes", 101), ["0 lost user.admin.notes Some(1)"]);
    assert_eq!(message(0, "user.other.notes", 101), ["0 lost user.*.notes Some(1)"]);
}

#[test]
fn ex_02_wildcards_of_all_clients_that_match_one_subject_are_bounded() {
    let mut table = TestFeeds::overlapping(Vec::new(), 3, &[]);
    for channel in ["a.*", "a.>", "*.b", "a.b", "user.1.>", "user.2.>", "user.*.x"] {
        assert!(table.join(0, channel).is_empty(), "{channel}");
    }
    assert_eq!(table.join(0, ">"), ["0 limit_exceeded >"], "it would be the fourth on a.b");
    assert_eq!(table.join(1, "*.*"), ["1 limit_exceeded *.*"]);
    assert!(table.join(1, "a.*").is_empty(), "an existing subscription costs nothing more");
    assert!(table.join(1, "user.3.>").is_empty());
    table.leave(0, "*.b", 0);
    table.sweep(6);
    assert!(table.join(0, ">").is_empty(), "the removed feed makes room");
}

#[test]
fn ex_02_clients_cannot_use_up_the_places_of_patterns_that_the_configuration_names() {
    let mut table =
        TestFeeds::overlapping(vec![class("news.>", FeedBy::Pattern)], 2, &["prices.>", "news.>"]);
    for channel in ["*.a", "*.*"] {
        assert!(table.join(0, channel).is_empty(), "{channel}");
    }
    assert_eq!(table.join(0, "prices.*"), ["0 limit_exceeded prices.*"]);
    assert!(table.join(0, "prices.>").is_empty(), "a role names this pattern");
    assert!(table.join(0, "news.a").is_empty(), "a class names this pattern, and its channels share it");
}

fn kept() -> (TestFeeds, Arc<Class>) {
    let class = Class { snapshot: true, ..class("room.>", FeedBy::Always) };
    let mut table = TestFeeds::new(vec![class.clone()]);
    let (class, now, made) = (Arc::new(class), table.at(0), &mut table.made);
    table.feeds.keep(&class, now, |pattern| {
        made.push(Some(pattern.clone()));
        0
    });
    table.opened(0);
    (table, class)
}

/// The subjects of the last values.
fn last(table: &mut TestFeeds, class: &Arc<Class>, channel: &str) -> Option<Vec<String>> {
    let (now, made) = (table.at(0), &mut table.made);
    let subscribe = |pattern: &Pattern| {
        made.push(Some(pattern.clone()));
        u32::try_from(made.len() - 1).unwrap()
    };
    let found = table.feeds.last(pattern(channel), Arc::clone(class), true, now, subscribe)?;
    Some(found.iter().map(|publication| publication.subject.to_string()).collect())
}

fn snapshots(outgoing: &[ShardItem]) -> Vec<(String, usize)> {
    let joined = |ShardItem { item, .. }: &ShardItem| match item {
        Item::Joined { pattern, snapshot, .. } => Some((pattern.to_string(), snapshot.deliveries.len())),
        Item::JoinFailed { .. }
        | Item::Publication { .. }
        | Item::Elements { .. }
        | Item::Unrenderable { .. }
        | Item::Gap { .. }
        | Item::Recovered { .. }
        | Item::Stale { .. } => None,
    };
    outgoing.iter().filter_map(joined).collect()
}

#[test]
fn a_class_that_always_keeps_values_has_them_for_every_first_channel() {
    let (mut table, class) = kept();
    for subject in ["room.a", "room.b", "room.c.d", "room.a"] {
        assert_eq!(table.message(0, subject), [""; 0]);
    }
    for (channel, subjects) in [
        ("room.a", &["room.a"][..]),
        ("room.x", &[]),
        ("room.*", &["room.b", "room.a"]),
        ("room.>", &["room.b", "room.c.d", "room.a"]),
        ("room.*.d", &["room.c.d"]),
    ] {
        let found = last(&mut table, &class, channel);
        assert_eq!(found.as_deref(), Some(&subjects.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]));
    }
    assert_eq!(table.subscribed(), ["room.>"], "asking starts nothing");
    assert!(table.sweep(1_000_000).is_empty(), "it has no subscribers, and stays");
    for (channel, expected) in [("room.a", 1), ("room.x", 0), ("room.>", 3)] {
        let join = Join {
            shard: ShardIndex(0),
            topic: TopicId::default(),
            class: Arc::clone(&class),
            pattern: pattern(channel),
            format: format(),
        };
        let (now, mut outgoing) = (table.at(0), Vec::new());
        table.feeds.join(join, now, |_| panic!("it shares the subscription"), &mut outgoing);
        assert_eq!(snapshots(&outgoing), [(channel.to_owned(), expected)]);
    }
    assert_eq!(table.join(0, "room.*"), [""; 0], "a narrower wildcard has its own subscription");
    table.message(1, "room.b");
    let (now, mut outgoing) = (table.at(0), Vec::new());
    table.feeds.opened(1, now.0, &mut outgoing);
    assert_eq!(snapshots(&outgoing), [("room.*".to_owned(), 2)]);
    assert_eq!(last(&mut table, &class, "room.*").unwrap(), ["room.a", "room.b"]);
    for (shard, channel) in [(0, "room.a"), (0, "room.x"), (0, "room.>"), (0, "room.*")] {
        table.leave(shard, channel, 0);
    }
    assert_eq!(table.sweep(1_000_000), [1]);
    assert_eq!(last(&mut table, &class, "room.a").unwrap(), ["room.a"], "a later one has it too");
}

#[test]
fn asking_for_and_joining_each_symbol_of_a_class_looks_at_its_own_values_only() {
    let (mut table, class) = kept();
    let symbols: Vec<String> = (0..10).map(|symbol| format!("room.{symbol}")).collect();
    for symbol in &symbols {
        table.message(0, symbol);
    }
    let visited = |table: &mut TestFeeds| table.feeds.kept(&class).unwrap().visited();
    assert_eq!(last(&mut table, &class, "room.0").unwrap(), ["room.0"]);
    let start = visited(&mut table);
    assert!((10..=11).contains(&start), "the first call looks at all");
    for symbol in &symbols {
        assert_eq!(last(&mut table, &class, symbol).unwrap(), [symbol.as_str()]);
    }
    assert_eq!(visited(&mut table) - start, 10);
    for symbol in &symbols {
        assert_eq!(table.join(0, symbol), [format!("0 joined {symbol}")]);
        assert_eq!(texts(&table, symbol), ["1"]);
    }
    assert_eq!(visited(&mut table) - start, 20);
}

/// The texts of the last values, each published as the payload.
fn texts(table: &TestFeeds, channel: &str) -> Vec<String> {
    let feed = &table.feeds.entries[table.feeds.by_pattern[channel]].feed;
    let text = |publication: &Publication| String::from_utf8_lossy(publication.payload.bytes()).into_owned();
    feed.last(table.at(0).0).unwrap().map(text).collect()
}

#[test]
fn a_channel_that_opens_has_what_its_class_received_while_it_waited() {
    let (mut table, _) = kept();
    let publish = |table: &mut TestFeeds, key: u32, subject: &str, text: &str| {
        table.outgoing_of(|feeds, now, outgoing| {
            let message = Message::plain(subject, text.as_bytes());
            feeds.publish(key, &message, now, &mut encoder(), outgoing).unwrap()
        })
    };
    for subject in ["room.a", "room.b", "room.c"] {
        publish(&mut table, 0, subject, &format!("{subject} 1"));
    }
    table.join(0, "room.*");
    publish(&mut table, 0, "room.a", "room.a 2");
    publish(&mut table, 0, "room.b", "room.b 2");
    publish(&mut table, 1, "room.b", "room.b 3");
    table.opened(1);
    assert_eq!(texts(&table, "room.*"), ["room.c 1", "room.a 2", "room.b 3"]);
    publish(&mut table, 0, "room.b", "room.b 3");
    assert_eq!(texts(&table, "room.>"), ["room.c 1", "room.a 2", "room.b 3"]);
}

#[test]
fn a_channel_that_waits_for_its_class_has_what_the_class_received_before() {
    let class = Class { snapshot: true, ..class("room.>", FeedBy::Always) };
    let mut table = TestFeeds::new(vec![class]);
    table.join(0, "room.>");
    table.message(0, "room.a");
    table.join(0, "room.a");
    assert_eq!(table.subscribed(), ["room.>"]);
    table.opened(0);
    assert_eq!(texts(&table, "room.a"), ["1"]);
}

#[test]
fn kept_values_are_forgotten_with_the_link_and_a_refused_class_is_tried_again() {
    let (mut table, class) = kept();
    table.message(0, "room.a");
    table.interrupted(0);
    assert_eq!(last(&mut table, &class, "room.a"), None, "a newer one may be missed");
    assert_eq!(last(&mut table, &class, "room.*"), None);
    table.opened(0);
    assert_eq!(last(&mut table, &class, "room.a").unwrap(), [""; 0]);
    table.outgoing_of(|feeds, now, outgoing| feeds.failed(0, &error(), now.0, |_| (), outgoing));
    assert!(!table.feeds.has(0));
    assert_eq!(last(&mut table, &class, "room.b").unwrap(), [""; 0]);
    assert_eq!(table.subscribed().len(), 2, "it is subscribed to again");
    table.opened(1);
    table.message(1, "room.b");
    assert_eq!(last(&mut table, &class, "room.b").unwrap(), ["room.b"]);
}
