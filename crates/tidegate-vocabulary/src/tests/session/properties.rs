//! Random sequences of inputs: the session never panics, closes once, and does nothing without permission.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use serde_json::json;

use crate::transcript::Transcript;
use tidegate_protocol::class::Priority;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::native::Native;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

const HEAD: &str = "# Head
identity alice: subscribe a.> b.* c; publish a.>; request b.*; expires 60s
identity alice-less: user alice; subscribe a.* c; deny-subscribe a.y; publish a.x
identity alice-none: user alice
identity bob: subscribe a.>; publish a.>; request b.*
identity visitor: anonymous; subscribe c
class a.>: latest; max_rate 50ms
class b.*: buffer; priority high
limits: subscriptions 4; max_errors 12; commands_per_s 20; commands_burst 60; requests_in_flight 3";

/// Personas that lead to long conversations are here several times.
const PERSONAS: [&str; 8] =
    ["alice", "alice", "alice", "alice-less", "alice-less", "alice-none", "bob", "visitor"];

const TYPES: [&str; 10] = [
    "subscribe",
    "subscribe",
    "subscribe",
    "unsubscribe",
    "publish",
    "request",
    "auth",
    "ping",
    "pong",
    "dance",
];

const CHANNELS: [&str; 15] =
    ["a.x", "a.x", "a.y", "a.y", "a.*", "a.>", "b.x", "b.*", "c", "c", "d", ">", "$SYS.x", "a..x", ""];

/// One event. Numbers are ids of subscriptions and requests, known and unknown ones.
#[derive(Clone, Debug)]
enum Event {
    Said(String),
    Binary,
    Alive,
    Authenticated(Option<usize>),
    Joined(u32),
    Unjoined(u32),
    Publication(u32),
    Lost(u32),
    Stale(u32),
    Published(u32, bool),
    Replied(u32, bool),
    Elapsed(u32),
    Failed,
    Drain,
}

fn command() -> impl Strategy<Value = String> {
    let channels = vec(select(&CHANNELS[..]), 0..4);
    (select(&TYPES[..]), channels, any::<bool>(), prop::option::of(0_u32..100)).prop_map(
        |(kind, channels, id, rate)| {
            let mut message = json!({"type": kind, "data": 1, "token": "t"});
            if id {
                message["id"] = json!(7);
            }
            if let Some(rate) = rate {
                message["max_rate_ms"] = json!(rate);
                message["timeout_ms"] = json!(rate);
            }
            if channels.len() == 1 || kind == "publish" || kind == "request" {
                message["channel"] = json!(channels.first().unwrap_or(&"a.x"));
            } else {
                message["channels"] = json!(channels);
            }
            message.to_string()
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let number = || prop_oneof![4 => 0_u32..3, 1 => 3_u32..12];
    prop_oneof![
        8 => command().prop_map(Event::Said),
        1 => "[ -~]{0,20}".prop_map(Event::Said),
        1 => Just(Event::Binary),
        1 => Just(Event::Alive),
        1 => (0..PERSONAS.len()).prop_map(|persona| Event::Authenticated(Some(persona))),
        1 => Just(Event::Authenticated(None)),
        6 => number().prop_map(Event::Joined),
        1 => number().prop_map(Event::Unjoined),
        4 => number().prop_map(Event::Publication),
        1 => number().prop_map(Event::Lost),
        1 => number().prop_map(Event::Stale),
        2 => (number(), any::<bool>()).prop_map(|(request, done)| Event::Published(request, done)),
        2 => (number(), any::<bool>()).prop_map(|(request, done)| Event::Replied(request, done)),
        3 => (0_u32..20_000).prop_map(Event::Elapsed),
    ]
    .boxed()
}

/// Events, perhaps an end from outside, and a few events after it.
fn conversation() -> impl Strategy<Value = Vec<Event>> {
    let end = prop_oneof![Just(Event::Failed), Just(Event::Drain)];
    (vec(event(), 0..80), prop::option::of(end), vec(event(), 0..5)).prop_map(|(mut before, end, after)| {
        before.extend(end);
        before.extend(after);
        before
    })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Joining,
    Held,
    Live,
}

/// This instant, at an arbitrary time of day.
fn at(instant: Instant) -> Now {
    Now { instant, wall: SystemTime::UNIX_EPOCH }
}

/// A session, and what follows from its inputs and outputs so far.
struct Observer {
    transcript: Transcript,
    session: Session,
    now: Instant,
    identity: Option<Arc<Identity>>,
    subscriptions: BTreeMap<SubscriptionId, (Pattern, Place)>,
    made: u32,
    requests: u32,
    hold: bool,
    closed: bool,
}

impl Observer {
    fn new(connect: Option<usize>, hold: bool) -> Self {
        let mut transcript = Transcript::parse(HEAD).unwrap();
        transcript.settings.hold = hold;
        let now = Instant::now();
        let verified = connect.map(|persona| verified(&transcript, persona, now));
        let identity = verified.as_ref().map(|verified| verified.identity.clone());
        let settings = Arc::new(transcript.settings.clone());
        let session = Session::new("s1".into(), Arc::new(Native), settings, verified, at(now));
        let subscriptions = BTreeMap::new();
        let mut observer = Self {
            transcript,
            session,
            now,
            identity,
            subscriptions,
            made: 0,
            requests: 0,
            hold,
            closed: false,
        };
        observer.observe();
        observer
    }

    fn apply(&mut self, event: &Event) {
        let error = || ClientError::new(ErrorCode::Unavailable, "try again");
        let now = self.now;
        let input = match event {
            Event::Said(text) => Input::Received(ClientMessage::Text(text.clone())),
            Event::Binary => Input::Received(ClientMessage::Binary(Bytes::from_static(b"\xff"))),
            Event::Alive => Input::Alive,
            Event::Authenticated(Some(persona)) => {
                Input::Authenticated(Ok(verified(&self.transcript, *persona, now)))
            }
            Event::Authenticated(None) => Input::Authenticated(Err(error())),
            Event::Joined(number) => {
                let id = SubscriptionId(*number);
                if let Some((_, place @ Place::Joining)) = self.subscriptions.get_mut(&id) {
                    *place = Place::Held;
                }
                Input::Joined { subscription: id, snapshot: vec![delivery()], stale: None, position: None }
            }
            Event::Unjoined(number) => {
                Input::JoinFailed { subscription: SubscriptionId(*number), error: error() }
            }
            Event::Publication(number) => {
                Input::Publication { subscription: SubscriptionId(*number), delivery: Rc::new(delivery()) }
            }
            Event::Lost(number) => {
                let cause = GapCause::Nats;
                Input::Lost { subscription: SubscriptionId(*number), cause, dropped: Some(1), range: None }
            }
            Event::Stale(number) => {
                Input::Stale { subscription: SubscriptionId(*number), since: SystemTime::UNIX_EPOCH }
            }
            Event::Published(request, true) => Input::Published { request: *request, result: Ok(()) },
            Event::Published(request, false) => Input::Published { request: *request, result: Err(error()) },
            Event::Replied(request, true) => {
                Input::Replied { request: *request, result: Ok(Payload::classify(Bytes::from_static(b"1"))) }
            }
            Event::Replied(request, false) => Input::Replied { request: *request, result: Err(error()) },
            Event::Elapsed(millis) => return self.elapse(Duration::from_millis(u64::from(*millis))),
            Event::Failed => Input::Disconnect(Disconnect::ProtocolError),
            Event::Drain => Input::Drain { retry_after: Duration::from_secs(1) },
        };
        let shown = if let Input::Authenticated(Ok(verified)) = &input {
            Some(verified.identity.clone())
        } else {
            None
        };
        self.session.handle_input(input, at(self.now));
        // A session that does not accept an identity ends.
        if shown.is_some() && self.session.user().is_some() {
            self.identity = shown;
        }
        self.observe();
    }

    fn elapse(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(at(self.now));
        self.observe();
        assert!(
            self.session.poll_timeout().is_none_or(|next| next > self.now),
            "its timeout is not in the future"
        );
    }

    /// Checks all outputs of the session, and the rules that always hold.
    fn observe(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.closed, "output after it has closed: {output:?}");
            self.one(output);
        }
        assert_eq!(self.closed, self.session.user().is_none() && self.session.poll_timeout().is_none());
        let (expires, next) = (self.session.expires(), self.session.poll_timeout());
        assert!(expires.is_none_or(|expires| next.is_some_and(|next| next <= expires)));
        if self.closed {
            return;
        }
        let settings = &self.transcript.settings;
        assert!(self.subscriptions.len() <= 2 * settings.max_subscriptions);
        let mut answered: Vec<_> =
            self.subscriptions.values().filter(|(_, place)| *place != Place::Joining).collect();
        answered.sort_by_key(|(pattern, _)| pattern);
        answered
            .windows(2)
            .for_each(|two| assert_ne!(two[0].0, two[1].0, "a publication would be delivered twice"));
        for (pattern, place) in self.subscriptions.values() {
            assert!(self.may(Operation::Subscribe, pattern), "{pattern} is {place:?} without permission");
            assert!(*place != Place::Held || self.hold, "{pattern} is not live");
        }
    }

    fn one(&mut self, output: Output) {
        match output {
            Output::Send { frame, .. } => {
                let message: Value = serde_json::from_slice(frame.message()).unwrap();
                assert!(message["type"].is_string(), "{message}");
            }
            Output::Deliver { subscription, .. } => {
                assert_eq!(self.subscriptions[&subscription].1, Place::Held);
            }
            Output::Release { subscription } => {
                assert!(self.subscriptions.contains_key(&subscription), "releases what it does not have");
            }
            Output::Ping | Output::Denied(_) | Output::Refused(_) | Output::Authenticate { .. } => {}
            Output::DeliverSnapshot { .. }
            | Output::Recover { .. }
            | Output::TrustIdentity { .. }
            | Output::Filter { .. } => {
                panic!("no client asks for it: {output:?}")
            }
            Output::Join { subscription, pattern, class, max_rate, .. } => {
                assert_eq!(subscription.0, self.made, "ids are given once");
                self.made += 1;
                assert!(class.max_rate <= max_rate, "faster than the class");
                self.subscriptions.insert(subscription, (pattern, Place::Joining));
            }
            Output::GoLive { subscription } => {
                let (_, place) = self.subscriptions.get_mut(&subscription).unwrap();
                assert!(*place == Place::Held && !self.hold);
                *place = Place::Live;
            }
            Output::Leave { subscription } => {
                assert!(self.subscriptions.remove(&subscription).is_some(), "leaves what it does not have");
            }
            Output::Publish { request, subject, .. } => {
                self.request(request, Operation::Publish, &subject.into())
            }
            Output::Request { request, subject, timeout, .. } => {
                assert!(timeout <= self.transcript.settings.request_timeout_max);
                self.request(request, Operation::Request, &subject.into());
            }
            Output::Query { .. } => panic!("no command of this protocol asks for it"),
            Output::Close { .. } => self.closed = true,
        }
    }

    fn request(&mut self, request: u32, operation: Operation, subject: &Pattern) {
        assert_eq!(request, self.requests, "numbers are given once");
        self.requests += 1;
        assert!(self.may(operation, subject), "{operation:?} on {subject} without permission");
    }

    fn may(&self, operation: Operation, pattern: &Pattern) -> bool {
        let identity = self.identity.as_ref();
        identity.is_some_and(|identity| identity.permissions.decide(operation, pattern).is_allowed())
    }
}

fn delivery() -> Delivery {
    let frame = Frame::text(0, |out| out.extend_from_slice(br#"{"type":"message"}"#));
    Delivery { frame, key: "k".into(), priority: Priority::Normal, expires: None }
}

fn verified(transcript: &Transcript, persona: usize, now: Instant) -> Verified {
    let persona = transcript.persona(PERSONAS[persona]).unwrap();
    let expires = persona.expires_in.map(|expires_in| now + expires_in);
    Verified { identity: Arc::new(persona.identity.clone()), expires }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_session_keeps_its_rules_for_any_inputs(
        connect in prop::option::weighted(0.8, 0..PERSONAS.len()),
        hold in any::<bool>(),
        conversation in conversation(),
    ) {
        let mut observer = Observer::new(connect, hold);
        for event in &conversation {
            observer.apply(event);
        }
    }
}
