//! Joins, answers and leaves in any order, against a naive model that searches all subscriptions each time.

use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::hub::Hub;
use crate::hub::effects::Effects;
use crate::hub::subscriber::Subscriber;
use crate::hub::tests::INTERVAL;
use crate::hub::tests::encoded;
use crate::hub::tests::format;
use crate::hub::tests::held;
use crate::hub::tests::names;
use crate::hub::tests::pattern;
use crate::hub::tests::subscribe;
use crate::hub::tests::subscriber;
use crate::hub::tests::written;
use tidegate_protocol::session::subscription::SubscriptionId;

const CLIENTS: usize = 5;
const PATTERNS: [&str; 3] = ["x", "y.*", "z.>"];

#[derive(Clone, Debug)]
enum Happening {
    Join {
        client: usize,
        on: usize,
        route: u16,
        rate_limited: bool,
    },
    Joined {
        on: usize,
        route: u16,
    },
    Unjoined {
        on: usize,
        route: u16,
    },
    /// A subscription by its position; beyond the last one, a subscription that does not exist.
    GoLive {
        which: usize,
    },
    Leave {
        which: usize,
    },
    Publish {
        on: usize,
        routes: Vec<u16>,
    },
    Elapse {
        millis: u64,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let (client, on, route, which) = (0..CLIENTS, 0..PATTERNS.len(), 0_u16..2, 0..12_usize);
    prop_oneof![
        6 => (client, on.clone(), route.clone(), any::<bool>())
            .prop_map(|(client, on, route, rate_limited)| Happening::Join { client, on, route, rate_limited }),
        4 => (on.clone(), route.clone()).prop_map(|(on, route)| Happening::Joined { on, route }),
        1 => (on.clone(), route).prop_map(|(on, route)| Happening::Unjoined { on, route }),
        6 => which.clone().prop_map(|which| Happening::GoLive { which }),
        4 => which.prop_map(|which| Happening::Leave { which }),
        6 => (on, prop::sample::subsequence(vec![0_u16, 1], 0..=2))
            .prop_map(|(on, routes)| Happening::Publish { on, routes }),
        1 => (0..150_u64).prop_map(|millis| Happening::Elapse { millis }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum MemberState {
    Joining,
    Refused,
    Held,
    Live,
}

/// A subscription as the naive hub sees it.
#[derive(Debug)]
struct Subscription {
    client: usize,
    id: u32,
    on: usize,
    route: u16,
    state: MemberState,
    rate_limited: bool,
    /// When the next publication may be sent, and the publication that waits for it.
    turn: Option<Instant>,
    waits: Option<String>,
}

/// The hub and the model.
struct Pair {
    hub: Hub,
    subscribers: Vec<Rc<Subscriber>>,
    now: Instant,
    made: u32,
    published: u32,
    subscriptions: Vec<Subscription>,
    /// The patterns with a topic, and the formats with an open request.
    topics: Vec<Option<Vec<u16>>>,
}

impl Pair {
    fn new() -> Self {
        Self {
            hub: Hub::default(),
            subscribers: (0..CLIENTS).map(subscriber).collect(),
            now: Instant::now(),
            made: 0,
            published: 0,
            subscriptions: Vec::new(),
            topics: vec![None; PATTERNS.len()],
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Join { client, on, route, rate_limited } => {
                self.join(*client, *on, *route, *rate_limited)
            }
            Happening::Joined { on, route } => {
                let answered = self.hub.joined(&pattern(PATTERNS[*on]), format(*route));
                assert_eq!(names(&answered), self.answered(*on, *route, MemberState::Held));
                self.forget(*on);
            }
            Happening::Unjoined { on, route } => {
                let answered = self.hub.join_failed(&pattern(PATTERNS[*on]), format(*route));
                assert_eq!(names(&answered), self.answered(*on, *route, MemberState::Refused));
                self.forget(*on);
            }
            Happening::GoLive { which } => self.go_live(*which),
            Happening::Leave { which } => self.leave(*which),
            Happening::Publish { on, routes } => self.publish(*on, routes),
            Happening::Elapse { millis } => self.elapse(Duration::from_millis(*millis)),
        }
        self.check_listeners();
        // Independent of the others, so that publications also arrive before a join.
        if matches!(happening, Happening::Publish { .. } | Happening::Elapse { .. }) {
            self.check_turns();
        }
    }

    /// A session never subscribes to a pattern twice.
    fn join(&mut self, client: usize, on: usize, route: u16, rate_limited: bool) {
        if self
            .subscriptions
            .iter()
            .any(|subscription| (subscription.client, subscription.on) == (client, on))
        {
            return;
        }
        let id = self.made;
        self.made += 1;
        let max_rate = rate_limited.then_some(INTERVAL);
        let asks = self.hub.join(&self.subscribers[client], subscribe(id, PATTERNS[on], route, max_rate));
        let requested = self.topics[on].get_or_insert_default();
        assert_eq!(asks, !requested.contains(&route), "asks unless the question is on its way");
        if asks {
            requested.push(route);
        }
        let (turn, waits) = (None, None);
        self.subscriptions.push(Subscription {
            client,
            id,
            on,
            route,
            state: MemberState::Joining,
            rate_limited,
            turn,
            waits,
        });
    }

    fn answered(&mut self, on: usize, route: u16, state: MemberState) -> Vec<(usize, u32)> {
        if let Some(requested) = &mut self.topics[on] {
            requested.retain(|requested| *requested != route);
        }
        let waits = |s: &&mut Subscription| (s.on, s.route, s.state) == (on, route, MemberState::Joining);
        let answer = |subscription: &mut Subscription| {
            subscription.state = state;
            (subscription.client, subscription.id)
        };
        self.subscriptions.iter_mut().filter(waits).map(answer).collect()
    }

    fn go_live(&mut self, which: usize) {
        let Some(subscription) = self.subscriptions.get_mut(which) else {
            return self.hub.go_live(&self.subscribers[0], SubscriptionId(self.made));
        };
        self.hub.go_live(&self.subscribers[subscription.client], SubscriptionId(subscription.id));
        if subscription.state == MemberState::Held {
            subscription.state = MemberState::Live;
        }
    }

    fn leave(&mut self, which: usize) {
        if which >= self.subscriptions.len() {
            assert_eq!(self.hub.leave(&self.subscribers[0], SubscriptionId(self.made)), None);
            return;
        }
        let left = self.subscriptions.remove(which);
        let pattern_left = self.hub.leave(&self.subscribers[left.client], SubscriptionId(left.id));
        let last = self.is_unwanted(left.on) && self.topics[left.on].take().is_some();
        assert_eq!(pattern_left, last.then(|| pattern(PATTERNS[left.on])), "{left:?}");
        assert_eq!(self.hub.has_topic(&pattern(PATTERNS[left.on])), self.topics[left.on].is_some());
    }

    /// Whether there are no subscriptions and no open requests.
    fn is_unwanted(&self, on: usize) -> bool {
        let wanted =
            self.subscriptions.iter().any(|other| other.on == on && other.state != MemberState::Refused);
        !wanted && self.topics[on].as_ref().is_none_or(Vec::is_empty)
    }

    fn forget(&mut self, on: usize) {
        let forgotten = self.hub.remove_if_unused(&pattern(PATTERNS[on]));
        assert_eq!(forgotten, self.is_unwanted(on), "the lane is told when nobody wants it");
        if forgotten {
            self.topics[on] = None;
        }
    }

    fn publish(&mut self, on: usize, routes: &[u16]) {
        self.published += 1;
        let text = self.published.to_string();
        let mut effects = Effects::default();
        let topic = self.hub.topic(&pattern(PATTERNS[on]));
        topic.inspect(|topic| topic.publish(&encoded(&text, routes), self.now, &mut effects));
        assert_eq!(topic.is_some(), self.topics[on].is_some());
        let wants = |s: &Subscription, state| s.on == on && s.state == state && routes.contains(&s.route);
        let mut shown = held(&effects);
        shown.sort();
        let mut expected: Vec<(usize, u32, String)> = self
            .subscriptions
            .iter()
            .filter(|subscription| wants(subscription, MemberState::Held))
            .map(|subscription| {
                (subscription.client, subscription.id, format!("{text}/{}", subscription.route))
            })
            .collect();
        expected.sort();
        assert_eq!(shown, expected, "the held are shown it");
        let mut changed: Vec<usize> = effects.changed.iter().map(|subscriber| subscriber.owner.0).collect();
        changed.sort_unstable();
        let mut sent = vec![Vec::new(); CLIENTS];
        let mut touched = Vec::new();
        for subscription in &mut self.subscriptions {
            if wants(subscription, MemberState::Live) {
                let text = format!("{text}/{}", subscription.route);
                if let Some(text) = subscription.offer(text, self.now) {
                    touched.push(subscription.client);
                    sent[subscription.client].push(text);
                }
            }
        }
        touched.sort_unstable();
        assert_eq!(changed, touched, "the live that are sent something are to be flushed, each once");
        self.check_written(&sent);
    }

    fn elapse(&mut self, time: Duration) {
        self.now += time;
        let mut sent = vec![Vec::new(); CLIENTS];
        for subscriber in &self.subscribers {
            subscriber.release_due(self.now);
        }
        for subscription in &mut self.subscriptions {
            sent[subscription.client].extend(subscription.release(self.now));
        }
        self.check_written(&sent);
    }

    fn check_written(&self, expected: &[Vec<String>]) {
        for (subscriber, expected) in self.subscribers.iter().zip(expected) {
            assert_eq!(written(subscriber), *expected, "client {}", subscriber.owner.0);
        }
    }

    fn check_turns(&self) {
        for (client, subscriber) in self.subscribers.iter().enumerate() {
            let of_client = self.subscriptions.iter().filter(|subscription| subscription.client == client);
            let first = of_client.filter_map(|subscription| subscription.turn).min();
            assert_eq!(subscriber.next_release(), first, "the first turn of client {client}");
        }
    }

    fn check_listeners(&self) {
        for (on, text) in PATTERNS.iter().enumerate() {
            let mut members = names(&self.hub.members(&pattern(text)));
            members.sort_unstable();
            let listens =
                |s: &&Subscription| s.on == on && matches!(s.state, MemberState::Held | MemberState::Live);
            let mut expected: Vec<(usize, u32)> =
                self.subscriptions.iter().filter(listens).map(|s| (s.client, s.id)).collect();
            expected.sort_unstable();
            assert_eq!(members, expected, "who has joined {text}");
            assert_eq!(self.hub.topic(&pattern(text)).is_some(), self.topics[on].is_some());
        }
    }
}

impl Subscription {
    /// Returns the publication if it may be sent now; otherwise it waits and replaces the one before.
    fn offer(&mut self, text: String, now: Instant) -> Option<String> {
        if !self.rate_limited {
            return Some(text);
        }
        if self.turn.is_some() {
            self.waits = Some(text);
            return None;
        }
        self.turn = Some(now + INTERVAL);
        Some(text)
    }

    fn release(&mut self, now: Instant) -> Option<String> {
        if self.turn.is_none_or(|turn| turn > now) {
            return None;
        }
        let released = self.waits.take();
        self.turn = released.is_some().then(|| now + INTERVAL);
        released
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn in_any_order_the_hub_does_what_a_naive_one_does(happenings in vec(happening(), 0..150)) {
        let mut pair = Pair::new();
        for happening in &happenings {
            pair.happen(happening);
        }
    }
}
