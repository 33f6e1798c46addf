//! Delivery classes: how the publications of a pattern are delivered, and which class a subscription gets. The hub and
//! the lanes carry them out.

pub mod fields;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::class::fields::PayloadFields;
use crate::class::fields::is_key;
use crate::json::paths::JsonSpans;
use crate::payload::Payload;
use crate::subject::Pattern;
use crate::subject::Subject;

/// The longest `max_rate_ms` for classes and clients, because the outbox holds publications that long.
pub const MAX_RATE_MS: u32 = 60_000;

/// What happens to publications when publications come faster than a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One pending publication per key: a newer one replaces it.
    Latest,
    /// A bounded queue: it drops the oldest publication, and a `gap` says how many.
    Buffer,
}

impl Kind {
    /// The word in the configuration, in metrics and for operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Buffer => "buffer",
        }
    }
}

/// What an outbox does when its client falls behind. The class decides it.
///
/// Stored subjects will add a variant `Detach`: it ends a subscription at a position from which the client can resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// A newer publication replaces the pending one of its key. The oldest is dropped only if there are too many keys
    /// and nothing else can be dropped.
    KeepNewest,
    /// The oldest publication is dropped, and a gap takes its place.
    DropOldest,
}

/// Which frames leave an outbox first. The most urgent is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    High,
    Normal,
    Low,
}

impl Priority {
    /// The most urgent first. The number of a priority is its index here.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The value of a `Tidegate-Priority` header.
    pub fn of_header(value: &str) -> Option<Self> {
        let words = [("high", Self::High), ("normal", Self::Normal), ("low", Self::Low)];
        words.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(value)).map(|(_, priority)| priority)
    }

    /// The priority in a payload, in the words of many services.
    fn of_field(value: Option<&str>) -> Self {
        let is = |words: &[&str]| {
            value.is_some_and(|value| words.iter().any(|word| word.eq_ignore_ascii_case(value)))
        };
        if is(&["urgent", "high", "critical"]) {
            Self::High
        } else if is(&["low"]) {
            Self::Low
        } else {
            Self::Normal
        }
    }
}

/// Which NATS subscription feeds a literal channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedBy {
    /// The channel has its own.
    Subject,
    /// The one for the class's pattern, which all literal channels of the class share.
    Pattern,
    /// The same, and the node has it from its start to its end, with the last values of all subjects
    /// (`snapshot = "always"`).
    Always,
}

/// Which lane has a literal channel with a NATS subscription of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneBy {
    /// A hash of its name decides: channels are spread evenly over the threads.
    Hash,
    /// The lane on the thread of the first connection that subscribes. Publications for one connection, such as those of
    /// a user, then never change threads.
    Own,
}

/// The NATS headers of a publication that say how it is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryHeaders<'h> {
    /// `Tidegate-Key`.
    pub key: Option<&'h str>,
    /// `Tidegate-Priority`.
    pub priority: Option<&'h str>,
}

/// The scope in which a key is unique: that of a `Tidegate-Key` header, or of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// One subject: publications on other subjects cannot replace it.
    Subject,
    /// One channel, in which the subjects are keys too.
    Channel,
}

/// The number of a class in [`Classes`], for counts by class. The default class has 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassNumber(pub u16);

/// A delivery class, and the pattern that it applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub pattern: Pattern,
    /// Set by [`Classes::new`].
    pub number: ClassNumber,
    pub kind: Kind,
    /// Whether a new subscription receives the last values.
    pub snapshot: bool,
    /// The priority of its channels' messages, and of publications that say nothing else.
    pub priority: Priority,
    /// The fields of payloads that say more.
    pub fields: Option<Box<PayloadFields>>,
    /// How long a publication may wait for others, to share one write with them. Zero: not at all.
    pub batch: Duration,
    /// The shortest time between two publications of a key. Only for `Kind::Latest`.
    pub max_rate: Option<Duration>,
    /// Publications older than this are not sent.
    pub max_age: Option<Duration>,
    /// Clients get `stale` after this time without a publication.
    pub stale_after: Option<Duration>,
    /// The names of the NATS headers that clients receive; `*` means all of them.
    pub headers: Vec<String>,
    pub feed: FeedBy,
    pub lane: LaneBy,
    pub key_scope: KeyScope,
    /// The most subscriptions of one channel on a node; 0 for no limit.
    pub max_listeners: u32,
    /// The JetStream stream that stores the messages of the pattern, if there is one.
    pub stream: Option<Arc<str>>,
    /// Where a service decides about each subscription that reaches a subject of the pattern. `None`: roles decide alone.
    pub authorize: Option<Subject>,
}

impl Class {
    /// The default class, for patterns without a configured one.
    pub fn plain(pattern: Pattern) -> Self {
        Self {
            pattern,
            number: ClassNumber::default(),
            kind: Kind::Buffer,
            snapshot: false,
            priority: Priority::Normal,
            fields: None,
            batch: Duration::ZERO,
            max_rate: None,
            max_age: None,
            stale_after: None,
            headers: Vec::new(),
            feed: FeedBy::Subject,
            lane: LaneBy::Hash,
            key_scope: KeyScope::Subject,
            max_listeners: 0,
            stream: None,
            authorize: None,
        }
    }

    /// Whether payloads have keys, so that several publications of a subject may be current.
    pub fn has_keys(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.have_key())
    }

    /// Whether the last values of its channels are all that a client has missed: newer ones make the others obsolete.
    pub fn recovers_by_values(&self) -> bool {
        self.kind == Kind::Latest && self.snapshot && !self.has_keys()
    }

    pub fn overflow(&self) -> Overflow {
        match self.kind {
            Kind::Latest => Overflow::KeepNewest,
            Kind::Buffer => Overflow::DropOldest,
        }
    }

    /// The key that a publication replaces under `latest`, and by which its rate is limited: its subject, or the key
    /// that its producer gave it. Subjects contain no blanks, so `subject key` never equals another subject or its keys.
    pub fn key(&self, subject: &Arc<str>, given: Option<&str>) -> Arc<str> {
        match (given, self.key_scope) {
            (None, _) => Arc::clone(subject),
            (Some(key), KeyScope::Subject) => [subject, " ", key].concat().into(),
            (Some(key), KeyScope::Channel) => key.into(),
        }
    }

    /// The key and the priority of a publication: from its headers, else from its payload, else its subject and the
    /// priority of the class. Headers with wrong values count as absent.
    pub fn key_and_priority(
        &self,
        subject: &Arc<str>,
        payload: &Payload,
        headers: DeliveryHeaders<'_>,
    ) -> (Arc<str>, Priority) {
        let key = headers.key.filter(|key| is_key(key));
        let priority = headers.priority.and_then(Priority::of_header);
        let Some(fields) = &self.fields else {
            return (self.key(subject, key), priority.unwrap_or(self.priority));
        };
        let spans = JsonSpans::default();
        let found = fields.read(payload, &spans);
        let key = self.key(subject, key.or(found.key.as_deref()));
        let said = fields.have_priority().then(|| Priority::of_field(found.priority.as_deref()));
        (key, priority.or(said).unwrap_or(self.priority))
    }

    /// Whether the first connection that subscribes to a channel of this class decides which lane has it. Wildcards and
    /// channels that share a NATS subscription are assigned by [`Class::lane_pattern`].
    pub fn has_own_lane(&self, channel: &Pattern) -> bool {
        self.lane == LaneBy::Own && self.feed == FeedBy::Subject && channel.is_literal()
    }

    /// The pattern that decides which lane has a channel of this class.
    pub fn lane_pattern<'a>(&'a self, channel: &'a Pattern) -> &'a Pattern {
        match self.feed {
            // Its values begin with those of the class.
            FeedBy::Always => &self.pattern,
            FeedBy::Pattern | FeedBy::Subject => self.feed_pattern(channel),
        }
    }

    /// The pattern of the NATS subscription that feeds a channel of this class.
    ///
    /// A wildcard channel within the class has its own: NATS matches wildcards faster than we could. Each channel has
    /// only one feed, so it gets no publication twice.
    pub fn feed_pattern<'a>(&'a self, channel: &'a Pattern) -> &'a Pattern {
        match self.feed {
            FeedBy::Pattern | FeedBy::Always if channel.is_literal() => &self.pattern,
            FeedBy::Pattern | FeedBy::Always | FeedBy::Subject => channel,
        }
    }
}

/// Where a stream sends each message that it stores, in front of the subject (`RePublish`).
const LIVE: &str = "_live";

impl Class {
    /// The pattern to subscribe to on NATS for the publications of this pattern: of a stream, the copies that it sends.
    pub fn nats_pattern<'a>(&self, pattern: &'a Pattern) -> Cow<'a, Pattern> {
        let copies = || Pattern::parse(&format!("{LIVE}.{}", pattern.as_str())).ok();
        match self.stream.as_ref().and_then(|_| copies()) {
            Some(copies) => Cow::Owned(copies),
            None => Cow::Borrowed(pattern),
        }
    }

    /// The subject of the message that a stream has sent a copy of. `None` if this is not the subject of a copy.
    pub fn subject_of_copy(subject: &str) -> Option<&str> {
        subject.strip_prefix(LIVE)?.strip_prefix('.')
    }
}

/// All classes of a node, the most specific first.
#[derive(Clone, Debug)]
pub struct Classes {
    configured: Vec<Arc<Class>>,
    /// The default class, shared because very many channels may have it.
    plain: Arc<Class>,
}

impl Default for Classes {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Classes {
    pub fn new(mut classes: Vec<Class>) -> Self {
        classes.sort_by_cached_key(|class| Reverse(class.pattern.specificity()));
        for (class, number) in classes.iter_mut().zip(1..=u16::MAX) {
            class.number = ClassNumber(number);
        }
        let configured = classes.into_iter().map(Arc::new).collect();
        Self { configured, plain: Arc::new(Class::plain(Pattern::everything())) }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Class>> {
        self.configured.iter()
    }

    /// The patterns of all classes, by their numbers: that of the default class first.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        std::iter::once(&self.plain).chain(&self.configured).map(|class| &class.pattern)
    }

    /// The most specific class whose pattern covers all of `pattern`; the default class if there is none.
    ///
    /// A subscription that reaches beyond a class (`>` beyond `prices.>`) does not get that class.
    pub fn of(&self, pattern: &Pattern) -> Arc<Class> {
        let class = self.configured.iter().find(|class| class.pattern.covers(pattern));
        Arc::clone(class.unwrap_or(&self.plain))
    }

    /// Where services decide about a subscription to `pattern`, each once: those of all classes that it overlaps. So
    /// neither a wider pattern nor a more specific class without `authorize` is a way around a decision.
    pub fn authorizers(&self, pattern: &Pattern) -> Vec<&Subject> {
        let mut subjects: Vec<&Subject> = Vec::new();
        for class in &self.configured {
            if let Some(subject) = &class.authorize
                && !subjects.contains(&subject)
                && class.pattern.overlaps(pattern)
            {
                subjects.push(subject);
            }
        }
        subjects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn classes(patterns: &[&str]) -> Classes {
        Classes::new(patterns.iter().map(|text| Class::plain(pattern(text))).collect())
    }

    #[test]
    fn a_key_below_its_subject_is_no_other_subject_and_no_key_of_one() {
        let subjects: [Arc<str>; 3] = ["a".into(), "a.b".into(), "b".into()];
        let keys = [None, Some("a"), Some("a.b"), Some("b"), Some("a b"), Some(" "), Some("a a.b")];
        let class = Class::plain(pattern(">"));
        let mut made: Vec<_> =
            subjects.iter().flat_map(|subject| keys.map(|key| class.key(subject, key))).collect();
        made.sort();
        made.dedup();
        assert_eq!(made.len(), subjects.len() * keys.len());
        let class = Class { key_scope: KeyScope::Channel, ..class };
        assert_eq!(class.key(&subjects[0], Some("b")), class.key(&subjects[2], None));
    }

    #[test]
    fn the_most_specific_class_that_covers_a_pattern_is_chosen_whatever_the_order() {
        let written =
            ["prices.>", ">", "prices.*", "prices.AAPL", "*.AAPL", "prices.*.depth", "prices.AAPL.>"];
        let mut backwards = written;
        backwards.reverse();
        let cases = [
            ("prices.AAPL", "prices.AAPL"),
            ("prices.MSFT", "prices.*"),
            ("prices.*", "prices.*"),
            ("prices.>", "prices.>"),
            ("prices.MSFT.depth", "prices.*.depth"),
            ("prices.AAPL.depth", "prices.AAPL.>"),
            ("prices.AAPL.trades.last", "prices.AAPL.>"),
            ("orders.AAPL", "*.AAPL"),
            ("*.AAPL", "*.AAPL"),
            ("orders.MSFT", ">"),
            ("*.*", ">"),
            (">", ">"),
        ];
        for order in [written, backwards] {
            let classes = classes(&order);
            for (requested, expected) in cases {
                let found = classes.of(&pattern(requested));
                assert_eq!(found.pattern, pattern(expected), "{requested} with the classes {order:?}");
            }
        }
    }

    #[test]
    fn svc_02_every_service_of_a_class_that_a_pattern_overlaps_decides_about_it() {
        let with = |text: &str, service: Option<&str>| {
            let authorize = service.map(|service| Subject::parse(service).unwrap());
            Class { authorize, ..Class::plain(pattern(text)) }
        };
        let classes = Classes::new(vec![
            with("rooms.>", Some("authz.rooms")),
            with("rooms.public.>", None),
            with("*.secret", Some("authz.secret")),
            with("rooms.vip.*", Some("authz.rooms")),
            with("prices.>", None),
        ]);
        for (requested, expected) in [
            ("prices.AAPL", &[][..]),
            ("rooms.1", &["authz.rooms"]),
            ("rooms.vip.1", &["authz.rooms"]),
            ("rooms.public.1", &["authz.rooms"]),
            ("rooms.secret", &["authz.rooms", "authz.secret"]),
            ("rooms.*", &["authz.rooms", "authz.secret"]),
            ("prices.>", &["authz.secret"]),
            ("prices.*.depth", &[]),
            ("*.AAPL", &["authz.rooms"]),
            (">", &["authz.rooms", "authz.secret"]),
        ] {
            let mut found: Vec<_> =
                classes.authorizers(&pattern(requested)).into_iter().map(Subject::as_str).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{requested}");
        }
    }

    #[test]
    fn a_pattern_without_a_class_is_plain() {
        for requested in ["orders.1", "prices", ">", "*.AAPL"] {
            let found = classes(&["prices.>"]).of(&pattern(requested));
            assert_eq!(*found, Class::plain(pattern(">")), "{requested}");
            assert_eq!((found.kind, found.snapshot, found.priority), (Kind::Buffer, false, Priority::Normal));
        }
    }

    #[test]
    fn channels_of_a_class_by_pattern_share_its_subscription_and_narrower_wildcards_do_not() {
        let by_pattern = |text| Class { feed: FeedBy::Pattern, ..Class::plain(pattern(text)) };
        for (class, channel, source) in [
            (by_pattern("user.*.notes"), "user.a.notes", "user.*.notes"),
            (by_pattern("user.*.notes"), "user.*.notes", "user.*.notes"),
            (by_pattern("user.>"), "user.a.notes", "user.>"),
            (by_pattern("user.>"), "user.a.>", "user.a.>"),
            (by_pattern("user.>"), "user.*", "user.*"),
            (by_pattern("user.a"), "user.a", "user.a"),
            (Class::plain(pattern("user.>")), "user.a.notes", "user.a.notes"),
            (Class::plain(pattern("user.>")), "user.>", "user.>"),
        ] {
            assert_eq!(
                class.feed_pattern(&pattern(channel)),
                &pattern(source),
                "{channel} of {}",
                class.pattern
            );
        }
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec!["a", "b", "*"]);
        let body = prop::collection::vec(token, 1..4);
        (body, any::<bool>()).prop_map(|(body, open)| {
            let body = body.join(".");
            if open { format!("{body}.>") } else { body }
        })
    }

    proptest! {
        #[test]
        fn no_other_class_that_covers_a_pattern_is_narrower(
            configured in prop::collection::vec(any_pattern(), 0..8),
            requested in any_pattern(),
        ) {
            let requested = pattern(&requested);
            let texts: Vec<&str> = configured.iter().map(String::as_str).collect();
            let found = classes(&texts).of(&requested);
            let covering: Vec<Pattern> =
                texts.iter().map(|text| pattern(text)).filter(|other| other.covers(&requested)).collect();
            prop_assert!(found.pattern.covers(&requested));
            prop_assert!(covering.contains(&found.pattern) || (covering.is_empty() && *found == Class::plain(pattern(">"))));
            for other in covering {
                prop_assert!(other == found.pattern || !found.pattern.covers(&other), "{other:?} is narrower");
            }
        }
    }
}
