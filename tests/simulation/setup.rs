//! `Setup`: what a seed decides before a run begins: the size of the node, its classes and its limits.

use std::time::Duration;

use fastrand::Rng;
use tidegate::hub::outbox::limits::OutboxLimits;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::LaneBy;
use tidegate_protocol::class::Priority;
use tidegate_protocol::subject::Pattern;

/// Keys of a subject.
pub(crate) const KEYS: u16 = 3;

/// A class of channels, as the ledger judges it.
#[derive(Debug)]
pub(crate) struct SimClass {
    pub(crate) class: Class,
    /// Whether producers give its messages priorities of their own.
    pub(crate) has_priorities: bool,
    pub(crate) subjects: Vec<String>,
    pub(crate) channels: Vec<String>,
}

/// The node of one run.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Shards, and as many lanes.
    pub(crate) shards: usize,
    pub(crate) clients: usize,
    pub(crate) outbox: OutboxLimits,
    /// What the socket of a client takes that the client has not read.
    pub(crate) socket_bytes: usize,
    pub(crate) inbox_bytes: usize,
    pub(crate) lane_requests: usize,
    /// Unread bytes after which a server cuts a lane off.
    pub(crate) max_pending: usize,
    pub(crate) linger: Duration,
    /// The largest payload that is delivered.
    pub(crate) delivery_max: usize,
    /// Whether subscriptions stay held.
    pub(crate) hold: bool,
    pub(crate) classes: Vec<SimClass>,
    /// A channel that no client may subscribe to.
    pub(crate) forbidden: String,
}

impl Setup {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x5e70);
        let rng = &mut rng;
        Self {
            shards: rng.usize(1..=3),
            clients: rng.usize(1..=4),
            outbox: OutboxLimits {
                bytes: *pick(rng, &[1000, 3000, 6000, 20_000]),
                frames: *pick(rng, &[5, 10, 20, 40, 200]),
            },
            socket_bytes: *pick(rng, &[50, 400, 3000, 60_000]),
            inbox_bytes: *pick(rng, &[300, 1500, 20_000]),
            lane_requests: *pick(rng, &[1, 2, 20]),
            max_pending: *pick(rng, &[1500, 6000, 1_000_000]),
            linger: Duration::from_millis(*pick(rng, &[0, 50, 3000])),
            delivery_max: 600,
            hold: rng.u8(..8) == 0,
            classes: classes(rng),
            forbidden: "secret.a".to_owned(),
        }
    }

    /// All subjects of classes, then the forbidden one.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let of_classes = self.classes.iter().flat_map(|class| class.subjects.iter().cloned());
        of_classes.chain([self.forbidden.clone()]).collect()
    }

    /// Each channel, with the index of its class.
    pub(crate) fn channels(&self) -> Vec<(String, usize)> {
        let channels = self
            .classes
            .iter()
            .enumerate()
            .flat_map(|(at, class)| class.channels.iter().map(move |channel| (channel.clone(), at)));
        channels.collect()
    }
}

fn pick<'a, T>(rng: &mut Rng, of: &'a [T]) -> &'a T {
    &of[rng.usize(..of.len())]
}

/// Classes of every kind and option. A run has some of them.
fn classes(rng: &mut Rng) -> Vec<SimClass> {
    let ms = Duration::from_millis;
    let plain = |name: &str, kind| Class { kind, ..Class::plain(pattern(&format!("{name}.>"))) };
    let all = [
        ("buf", false, plain("buf", Kind::Buffer)),
        ("log", false, Class { snapshot: true, batch: ms(5), ..plain("log", Kind::Buffer) }),
        ("lat", false, Class { snapshot: true, ..plain("lat", Kind::Latest) }),
        ("bare", false, plain("bare", Kind::Latest)),
        ("rate", false, Class { max_rate: Some(ms(40)), snapshot: true, ..plain("rate", Kind::Latest) }),
        ("own", false, Class { lane: LaneBy::Own, snapshot: true, ..plain("own", Kind::Buffer) }),
        ("pat", false, Class { feed: FeedBy::Pattern, snapshot: true, ..plain("pat", Kind::Buffer) }),
        ("kept", false, Class { feed: FeedBy::Always, snapshot: true, ..plain("kept", Kind::Latest) }),
        ("prio", true, Class { priority: Priority::Low, ..plain("prio", Kind::Buffer) }),
        ("news", true, Class { priority: Priority::Low, snapshot: true, ..plain("news", Kind::Latest) }),
        ("high", false, Class { priority: Priority::High, ..plain("high", Kind::Buffer) }),
        ("old", false, Class { stale_after: Some(ms(300)), ..plain("old", Kind::Buffer) }),
    ];
    let count = rng.usize(1..=4);
    let mut classes: Vec<_> = all.into_iter().collect();
    rng.shuffle(&mut classes);
    classes.truncate(count);
    let sim_class = |(name, has_priorities, class)| {
        let subjects: Vec<String> = ["a", "b"].map(|token| format!("{name}.{token}")).into();
        let wild = [format!("{name}.*"), format!("{name}.>")];
        let channels = subjects.iter().cloned().chain(wild).collect();
        SimClass { class, has_priorities, subjects, channels }
    };
    classes.into_iter().map(sim_class).collect()
}

pub(crate) fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}
