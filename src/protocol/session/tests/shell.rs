//! A stand-in for what drives a session: it knows who is live, encodes publications, and says what it was asked.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::protocol::class::Class;
use crate::protocol::class::Priority;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::message::GapCause;
use crate::protocol::payload::Payload;
use crate::protocol::publication::Delivery;
use crate::protocol::publication::Publication;
use crate::protocol::session::Input;
use crate::protocol::session::Output;
use crate::protocol::session::Session;
use crate::protocol::session::Verified;
use crate::protocol::session::subscription::SubscriptionId;
use crate::protocol::session::terms::Terms;
use crate::protocol::session::transcript::Answer;
use crate::protocol::session::transcript::Credential;
use crate::protocol::session::transcript::Persona;
use crate::protocol::session::transcript::Published;
use crate::protocol::session::transcript::Transcript;
use crate::protocol::subject::Pattern;
use crate::protocol::subject::Subject;
use crate::protocol::vocabulary::Vocabularies;
use crate::protocol::vocabulary::Vocabulary;
use crate::protocol::vocabulary::described::Described;
use crate::protocol::vocabulary::described::Shown;
use crate::protocol::vocabulary::entered::Entered;
use crate::protocol::vocabulary::hole::Hole;
use crate::protocol::vocabulary::hole::TimeFormat;
use crate::protocol::websocket::Event;

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Joining,
    Held,
    Live,
}

struct Subscription {
    pattern: Pattern,
    format: Format,
    class: Arc<Class>,
    terms: Option<Rc<Terms>>,
    place: Place,
}

/// What came of one thing that a session was told.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// What the session asked for, in words.
    pub(super) asked: Vec<String>,
    /// The messages that the client sees, the urgent ones first.
    pub(super) messages: Vec<String>,
}

/// A session and whoever drives it.
pub(super) struct Shell {
    pub(super) session: Session,
    personas: Vec<Persona>,
    started: (Instant, SystemTime),
    now: Instant,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    last_values: Vec<Publication>,
    waiting: Vec<(u32, Subject)>,
    asked: Vec<String>,
    frames: Vec<(Priority, Frame)>,
    closed: bool,
    vocabularies: Vocabularies,
}

impl Shell {
    /// A session as the head of the transcript describes it.
    pub(super) fn start(transcript: &Transcript, described: Option<&Arc<Described>>) -> Self {
        let now = Instant::now();
        let started = (now, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        transcript.settings.clock.set(started.0, started.1);
        let connect = transcript.connect.as_ref().and_then(|name| transcript.persona(name));
        let session = Session::new(
            "s1".into(),
            described.map_or(Vocabulary::Native, |described| enter(described, transcript)),
            Rc::new(transcript.settings.clone()),
            connect.map(|persona| verified(persona, now)),
            now,
        );
        Self {
            session,
            personas: transcript.personas.clone(),
            started,
            now,
            subscriptions: BTreeMap::new(),
            last_values: Vec::new(),
            waiting: Vec::new(),
            asked: Vec::new(),
            frames: Vec::new(),
            closed: false,
            vocabularies: Vocabularies::new(described.into_iter().cloned().collect()),
        }
    }

    /// A session as these declarations describe it; its greeting is forgotten.
    pub(super) fn of(head: &str) -> Self {
        let mut shell = Self::start(&Transcript::parse(&format!("# Head\n{head}")).unwrap(), None);
        shell.heard();
        shell
    }

    /// What has come of it since the last call.
    pub(super) fn heard(&mut self) -> Heard {
        while let Some(output) = self.session.poll_output() {
            self.perform(output);
        }
        let mut frames = std::mem::take(&mut self.frames);
        frames.sort_by_key(|(priority, _)| *priority as usize);
        let text = |frame: &Frame| String::from_utf8(frame.message().to_vec()).unwrap();
        Heard {
            asked: std::mem::take(&mut self.asked),
            messages: frames.iter().map(|(_, frame)| text(frame)).collect(),
        }
    }

    /// The client says something.
    pub(super) fn say(&mut self, text: &str) -> Heard {
        self.receive(Event::Text(text.to_owned()))
    }

    pub(super) fn receive(&mut self, event: Event) -> Heard {
        self.tell(Input::Received(event))
    }

    pub(super) fn tell(&mut self, input: Input) -> Heard {
        self.session.handle_input(input, self.now);
        self.heard()
    }

    pub(super) fn answer(&mut self, answer: &Answer) -> Heard {
        let input = self.input(answer);
        self.tell(input)
    }

    /// Time passes; the session is woken whenever it has asked for it.
    pub(super) fn elapse(&mut self, time: Duration) -> Heard {
        let until = self.now + time;
        while let Some(due) = self.session.poll_timeout()
            && due <= until
        {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            let next = self.session.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "the session would be woken again and again");
        }
        self.now = until;
        self.heard()
    }

    /// Something comes from NATS: straight to the client for who is live, to the session for who is held.
    pub(super) fn publish(&mut self, published: &Published) -> Heard {
        let publication = self.publication(published);
        self.last_values.retain(|older| older.subject != publication.subject);
        self.last_values.push(publication.clone());
        let matching: Vec<SubscriptionId> = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.pattern.matches(&publication.subject))
            .map(|(id, _)| *id)
            .collect();
        for id in matching {
            let Some(subscription) = self.subscriptions.get(&id) else {
                continue;
            };
            if subscription.place == Place::Joining {
                continue;
            }
            let input = match self.vocabularies.publication(
                subscription.format,
                subscription.pattern.text(),
                &publication,
            ) {
                Shown::Nothing => continue,
                Shown::Unfit => {
                    Input::Lost { subscription: id, cause: GapCause::Malformed, dropped: Some(1) }
                }
                Shown::Frame(frame) => {
                    let delivery =
                        Rc::new(Delivery { frame, key: Arc::clone(&publication.key), expires: None });
                    if subscription.place == Place::Live {
                        let own = delivery.own(subscription.terms.as_deref());
                        let priority = subscription.class.priority;
                        self.frames.extend(own.map(|own| (priority, own.frame.clone())));
                        continue;
                    }
                    Input::Publication { subscription: id, delivery }
                }
            };
            self.session.handle_input(input, self.now);
            while let Some(output) = self.session.poll_output() {
                self.perform(output);
            }
        }
        self.heard()
    }

    /// How many subscriptions the shell has been asked for and not been told to leave.
    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    fn publication(&self, published: &Published) -> Publication {
        let subject: Arc<str> = published.subject.as_str().into();
        let pattern = Pattern::from(published.subject.clone());
        let classes =
            self.subscriptions.values().filter(|subscription| subscription.pattern.matches(&subject));
        let class = classes.map(|subscription| Arc::clone(&subscription.class)).next();
        let class = class.unwrap_or_else(|| Arc::new(Class::plain(pattern)));
        let shown =
            |name: &str| class.headers.iter().any(|shown| shown == "*" || shown.eq_ignore_ascii_case(name));
        Publication {
            key: Arc::clone(&subject),
            subject,
            payload: Payload::classify(published.payload.clone()),
            headers: published.headers.iter().filter(|(name, _)| shown(name)).cloned().collect(),
            time: self.wall(),
        }
    }

    fn wall(&self) -> SystemTime {
        self.started.1 + (self.now - self.started.0)
    }

    fn perform(&mut self, output: Output) {
        assert!(!self.closed, "after its end the session still says {output:?}");
        match output {
            Output::Send { frame, priority } => self.frames.push((priority, frame)),
            Output::Deliver { subscription, delivery } => {
                let subscription = &self.subscriptions[&subscription];
                assert!(subscription.place == Place::Held, "delivers for one that is not held");
                let own = delivery.own(subscription.terms.as_deref());
                self.frames.extend(own.map(|own| (subscription.class.priority, own.frame.clone())));
            }
            Output::Ping => self.asked.push("ping".to_owned()),
            Output::Authenticate { token } => self.asked.push(format!("authenticate {token}")),
            Output::Believe { user } => self.asked.push(format!("believe {user}")),
            Output::Filter { subscription, filter } => {
                let subscription = &self.subscriptions[&subscription];
                let values: String = filter.values.iter().map(|value| format!(" {value}")).collect();
                self.asked.push(format!("filter {} {}{values}", subscription.pattern, filter.name));
                subscription.terms.as_ref().unwrap().set_filter(filter);
            }
            Output::Join { subscription, pattern, format, class, max_rate, terms } => {
                let rate = max_rate.map(|rate| format!(" max_rate {}", humantime::format_duration(rate)));
                self.asked.push(format!("join {pattern}{}", rate.unwrap_or_default()));
                let joining = Subscription { pattern, format, class, terms, place: Place::Joining };
                assert!(self.subscriptions.insert(subscription, joining).is_none(), "the id is new");
            }
            Output::GoLive { subscription } => {
                let subscription = self.subscriptions.get_mut(&subscription).unwrap();
                assert!(subscription.place == Place::Held, "goes live from elsewhere than held");
                subscription.place = Place::Live;
                self.asked.push(format!("live {}", subscription.pattern));
            }
            Output::Leave { subscription } => {
                let left = self.subscriptions.remove(&subscription).unwrap();
                self.asked.push(format!("leave {}", left.pattern));
            }
            Output::Publish { request, subject, data, headers } => {
                let headers: Vec<String> =
                    headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                let headers =
                    if headers.is_empty() { String::new() } else { format!(" ({})", headers.join("; ")) };
                self.asked.push(format!("publish {subject}{headers}{}", payload(&data)));
                self.waiting.push((request, subject));
            }
            Output::Request { request, subject, data, timeout } => {
                let timeout = humantime::format_duration(timeout);
                self.asked.push(format!("request {subject} within {timeout}{}", payload(&data)));
                self.waiting.push((request, subject));
            }
            Output::Close { code, .. } => {
                self.asked.push(format!("close {code}"));
                self.subscriptions.clear();
                self.closed = true;
            }
        }
    }

    fn input(&mut self, answer: &Answer) -> Input {
        match answer {
            Answer::Joined { channel, stale_for } => {
                let subscription = self.on(channel);
                let joined = self.subscriptions.get_mut(&subscription).unwrap();
                joined.place = Place::Held;
                let snapshot = |publication: &&Publication| channel.matches(&publication.subject);
                let snapshot = self.last_values.iter().filter(snapshot).filter(|_| joined.class.snapshot);
                let snapshot = snapshot
                    .filter_map(|publication| encode(&self.vocabularies, joined, publication))
                    .collect();
                Input::Joined { subscription, snapshot, stale: stale_for.map(|silent| self.wall() - silent) }
            }
            Answer::Unjoined { channel, code } => {
                Input::Unjoined { subscription: self.on(channel), refusal: refusal(*code) }
            }
            Answer::Lost { channel, cause, dropped } => {
                Input::Lost { subscription: self.on(channel), cause: *cause, dropped: *dropped }
            }
            Answer::Stale { channel, stale_for } => {
                Input::Stale { subscription: self.on(channel), since: self.wall() - *stale_for }
            }
            Answer::Authenticated { persona } => {
                let persona = self.personas.iter().find(|known| known.name == *persona).unwrap();
                Input::Authenticated(Ok(verified(persona, self.now)))
            }
            Answer::Unauthenticated => Input::Authenticated(Err(refusal(ErrorCode::Unauthorized))),
            Answer::Published { subject } => {
                Input::Published { request: self.oldest(subject), result: Ok(()) }
            }
            Answer::Unpublished { subject, code } => {
                Input::Published { request: self.oldest(subject), result: Err(refusal(*code)) }
            }
            Answer::Replied { subject, payload } => Input::Replied {
                request: self.oldest(subject),
                result: Ok(Payload::classify(payload.clone())),
            },
            Answer::Unreplied { subject, code } => {
                Input::Replied { request: self.oldest(subject), result: Err(refusal(*code)) }
            }
            Answer::Alive => Input::Alive,
            Answer::Failed(disconnect) => Input::Failed(*disconnect),
            Answer::Drain { retry_after } => Input::Drain { retry_after: *retry_after },
        }
    }

    fn on(&self, channel: &Pattern) -> SubscriptionId {
        let there = || self.subscriptions.iter().filter(|(_, subscription)| subscription.pattern == *channel);
        let joining = there().find(|(_, subscription)| subscription.place == Place::Joining);
        let found = joining.or_else(|| there().next()).map(|(id, _)| *id);
        found.unwrap_or_else(|| panic!("nobody has asked for {channel}"))
    }

    fn oldest(&mut self, subject: &Subject) -> u32 {
        let found = self.waiting.iter().position(|(_, waiting)| waiting == subject);
        self.waiting.remove(found.unwrap_or_else(|| panic!("nothing waits for an answer from {subject}"))).0
    }
}

fn verified(persona: &Persona, now: Instant) -> Verified {
    Verified {
        identity: Arc::new(persona.identity.clone()),
        expires: persona.expires_in.map(|expires_in| now + expires_in),
    }
}

fn refusal(code: ErrorCode) -> Refusal {
    Refusal::new(code, "these words are the shell's")
}

fn encode(
    vocabularies: &Vocabularies,
    subscription: &Subscription,
    publication: &Publication,
) -> Option<Frame> {
    match vocabularies.publication(subscription.format, subscription.pattern.text(), publication) {
        Shown::Frame(frame) => Some(frame),
        Shown::Nothing | Shown::Unfit => None,
    }
}

/// The vocabulary as the transcript's client has entered it. Whoever is believed and not known from the handshake names
/// itself in the member `user_id` of its messages.
fn enter(described: &Arc<Described>, transcript: &Transcript) -> Vocabulary {
    let (path, query) = transcript.target.split_once('?').unwrap_or((&transcript.target, ""));
    let entered = described.enter(1, path, Some(query), |_| None).unwrap();
    let is_believed = transcript.personas.iter().any(|persona| persona.credential == Credential::Name);
    let believe = is_believed.then(|| Arc::new(Hole::parse("msg.user_id", TimeFormat::default()).unwrap()));
    Vocabulary::Described(Arc::new(Entered { believe, ..entered }))
}

fn payload(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok("") => String::new(),
        Ok(text) => format!(" {text}"),
        Err(_) => {
            let mut base64 = b" base64:".to_vec();
            Payload::put_base64(data, &mut base64);
            String::from_utf8(base64).unwrap()
        }
    }
}
