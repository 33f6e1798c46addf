//! Shell: drives a session in place of a connection: it tracks subscriptions, renders publications, and reports
//! outputs.

mod publishing;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use thiserror::Error;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Classes;
use tidegate_protocol::class::Priority;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::native::Native;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::binding::Binding;
use crate::model::CompiledVocabulary;
use crate::model::NoMatch;
use crate::placeholder::Placeholder;
use crate::time_format::TimeFormat;
use crate::transcript::Credential;
use crate::transcript::Persona;
use crate::transcript::Published;
use crate::transcript::ShellInput;
use crate::transcript::Transcript;
use crate::transcript::line::headers_text;
use crate::transcript::line::payload_text;
use crate::transcript::shell_elements::ShellElements;

/// Why a transcript cannot continue: it answers something that was not asked, or the session breaks its contract.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("the vocabulary has no path for {target:?}: fix the line \"path:\" of the transcript")]
    NoPath { target: String },
    #[error("{target:?} has a value that no path accepts: this handshake would be refused with 400")]
    BadPath { target: String },
    #[error("the session has not joined {channel}: remove the line, or find out why it does not join")]
    NotJoined { channel: String },
    #[error("no publish or request waits for {subject}")]
    NotWaiting { subject: String },
    #[error("the head has no identity {name:?}")]
    UnknownIdentity { name: String },
    #[error("the session breaks its contract: {what}")]
    Broken { what: String },
}

#[derive(Clone, Copy, PartialEq)]
enum SubscriptionPlace {
    Joining,
    Held,
    Live,
}

struct Subscription {
    pattern: Pattern,
    format: Format,
    class: Arc<Class>,
    subscription_context: Option<Rc<SubscriptionContext>>,
    place: SubscriptionPlace,
    /// Elements up to this number are not shown to it.
    since: u64,
}

/// A publication that may be a last value.
#[derive(Clone)]
struct StoredPublication {
    /// The number of publications up to this one.
    number: u64,
    arrived: Instant,
    publication: Publication,
}

/// An element of a channel that still waits for its lane. It came over another channel.
struct KeptElement {
    /// The subscription that waits.
    subscription: SubscriptionId,
    /// The number of its publication.
    number: u64,
    delivery: Delivery,
}

/// The outputs of a session after one input.
#[derive(Debug, Default, PartialEq)]
pub struct ShellOutput {
    /// Requests to the shell, in words.
    pub outputs: Vec<String>,
    /// Messages to the client, by priority.
    pub messages: Vec<String>,
}

/// A session, and the state of its shell.
pub struct Shell {
    pub session: Session,
    personas: Vec<Persona>,
    classes: Classes,
    started: (Instant, SystemTime),
    now: Instant,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    last_values: Vec<StoredPublication>,
    /// The number of publications so far.
    published: u64,
    kept: Vec<KeptElement>,
    waiting: Vec<(u32, Subject)>,
    outputs: Vec<String>,
    frames: Vec<(Priority, Frame)>,
    closed: bool,
    renderers: Renderers,
    scratch: Scratch,
    dialect: Arc<dyn Dialect>,
    elements: ShellElements,
}

impl Shell {
    /// Starts a session with the head of a transcript, in a vocabulary or in the native protocol.
    pub fn start(
        transcript: &Transcript,
        vocabulary: Option<&Arc<CompiledVocabulary>>,
        now: Instant,
    ) -> Result<Self, Fault> {
        let started = (now, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let connect = transcript.connect.as_ref().and_then(|name| transcript.persona(name));
        let dialect: Arc<dyn Dialect> = match vocabulary {
            Some(vocabulary) => Arc::new(bind(vocabulary, transcript)?),
            None => Arc::new(Native),
        };
        let session = Session::new(
            "s1".into(),
            Arc::clone(&dialect),
            Arc::new(transcript.settings.clone()),
            connect.map(|persona| verified(persona, now)),
            Now { instant: now, wall: started.1 },
        );
        Ok(Self {
            session,
            personas: transcript.personas.clone(),
            classes: transcript.settings.classes.clone(),
            started,
            now,
            subscriptions: BTreeMap::new(),
            last_values: Vec::new(),
            published: 0,
            kept: Vec::new(),
            waiting: Vec::new(),
            outputs: Vec::new(),
            frames: Vec::new(),
            closed: false,
            renderers: Renderers::new(vocabulary.map(|vocabulary| Arc::clone(vocabulary) as _)),
            scratch: Scratch::default(),
            dialect,
            elements: ShellElements::default(),
        })
    }

    /// Returns the outputs since the last call.
    pub fn take_output(&mut self) -> Result<ShellOutput, Fault> {
        self.perform_all()?;
        let members = self.element_members();
        let collected = self.elements.take_due(&members, &*self.dialect, self.now);
        if !self.closed {
            self.frames.extend(collected);
        }
        let mut frames = std::mem::take(&mut self.frames);
        frames.sort_by_key(|(priority, _)| *priority as usize);
        let text = |frame: &Frame| String::from_utf8_lossy(frame.message()).into_owned();
        Ok(ShellOutput {
            outputs: std::mem::take(&mut self.outputs),
            messages: frames.iter().map(|(_, frame)| text(frame)).collect(),
        })
    }

    /// Gives the session an input.
    pub fn handle_input(&mut self, input: Input) -> Result<ShellOutput, Fault> {
        self.session.handle_input(input, self.now());
        self.take_output()
    }

    /// Gives the session an input from a line of the transcript.
    pub fn handle_shell_input(&mut self, input: &ShellInput) -> Result<ShellOutput, Fault> {
        let input = self.input(input)?;
        self.handle_input(input)
    }

    /// Advances the time, and wakes the session at each of its timeouts.
    pub fn elapse(&mut self, time: Duration) -> Result<ShellOutput, Fault> {
        let until = self.now + time;
        while let Some(due) = self.session.poll_timeout()
            && due <= until
        {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now());
            if self.session.poll_timeout().is_some_and(|next| next <= self.now) {
                return broken("its timeout does not move on");
            }
        }
        self.now = until;
        self.take_output()
    }

    /// Publishes on NATS: live subscriptions deliver to the client, held ones to the session.
    pub fn publish(&mut self, published: &Published) -> Result<ShellOutput, Fault> {
        let (publication, priority) = self.publication(published);
        self.published += 1;
        let (number, arrived) = (self.published, self.now);
        let class = self.class_of(&Pattern::from(published.subject.clone()));
        for value in publication.separate(&class).unwrap_or_else(|| vec![publication.clone()]) {
            self.last_values.retain(|older| older.publication.key != value.key);
            self.last_values.push(StoredPublication { number, arrived, publication: value });
        }
        let matching: Vec<SubscriptionId> = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.pattern.matches(&publication.subject))
            .map(|(id, _)| *id)
            .collect();
        let mut stored: Vec<(Pattern, Format)> = Vec::new();
        for id in matching {
            let Some(subscription) = self.subscriptions.get(&id) else {
                continue;
            };
            if subscription.place == SubscriptionPlace::Joining {
                continue;
            }
            let (pattern, format) = (subscription.pattern.clone(), subscription.format);
            match self.renderers.publication(format, pattern.as_str(), &publication, &mut self.scratch) {
                Rendered::Nothing => {}
                Rendered::Unrenderable | Rendered::TooManyElements => self.lose(id)?,
                Rendered::Frame(frame) => self.deliver(id, frame, &publication.key, priority)?,
                Rendered::Elements { list, is_complete } => {
                    if !is_complete {
                        self.lose(id)?;
                    }
                    let elements = Elements { list, priority, arrived: self.now, time: publication.time };
                    if !stored.contains(&(pattern.clone(), format)) {
                        self.elements.put(&pattern, format, &elements);
                        stored.push((pattern, format));
                    }
                    self.deliver_elements(id, number, &elements)?;
                }
            }
        }
        self.take_output()
    }

    /// Delivers a message to a subscription: to the client, or to the session if it is held.
    fn deliver(
        &mut self,
        id: SubscriptionId,
        frame: Frame,
        key: &Arc<str>,
        priority: Priority,
    ) -> Result<(), Fault> {
        let subscription = self.there(id)?;
        let delivery = Rc::new(Delivery { frame, key: Arc::clone(key), priority, expires: None });
        if subscription.place == SubscriptionPlace::Live {
            return self.show(id, SubscriptionPlace::Live, &delivery);
        }
        self.session.handle_input(Input::Publication { subscription: id, delivery }, self.now());
        self.perform_all()
    }

    /// Shows the client a message of a subscription that is in this place.
    fn show(&mut self, id: SubscriptionId, place: SubscriptionPlace, of: &Rc<Delivery>) -> Result<(), Fault> {
        let subscription = self.there(id)?;
        if subscription.place != place {
            return broken("it delivers for a subscription that is not held");
        }
        let own = of.tailor(subscription.subscription_context.as_deref());
        self.frames.extend(own.map(|own| (own.priority, own.frame.clone())));
        Ok(())
    }

    /// A publication cannot be rendered for a subscription.
    fn lose(&mut self, id: SubscriptionId) -> Result<(), Fault> {
        let lost =
            Input::Lost { subscription: id, cause: GapCause::Malformed, dropped: Some(1), range: None };
        self.session.handle_input(lost, self.now());
        self.perform_all()
    }

    /// The number of subscriptions that the session has not left.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    fn now(&self) -> Now {
        Now { instant: self.now, wall: self.wall() }
    }

    fn wall(&self) -> SystemTime {
        self.started.1 + (self.now - self.started.0)
    }

    fn perform_all(&mut self) -> Result<(), Fault> {
        while let Some(output) = self.session.poll_output() {
            if self.closed {
                return broken(format!("after its end it has the output {output:?}"));
            }
            self.perform(output)?;
        }
        Ok(())
    }

    fn perform(&mut self, output: Output) -> Result<(), Fault> {
        match output {
            Output::Send { frame, priority } => self.frames.push((priority, frame)),
            Output::Deliver { subscription, delivery } => {
                self.show(subscription, SubscriptionPlace::Held, &delivery)?;
            }
            Output::DeliverSnapshot { subscription, snapshot } => {
                for value in snapshot {
                    self.show(subscription, SubscriptionPlace::Held, &Rc::new(value))?;
                }
            }
            // They are for the operator alone.
            Output::Denied(_) | Output::Refused(_) => {}
            Output::Ping => self.outputs.push("ping".to_owned()),
            Output::Authenticate { token } => self.outputs.push(format!("authenticate {token}")),
            Output::TrustIdentity { user } => self.outputs.push(format!("trust_client_identity {user}")),
            // The shell does not delay messages, so there is nothing to release.
            Output::Release { subscription } => drop(self.there(subscription)?),
            Output::Join { .. }
            | Output::Recover { .. }
            | Output::Filter { .. }
            | Output::GoLive { .. }
            | Output::Leave { .. } => self.channel(output)?,
            Output::Publish { request, subject, data, headers } => {
                let headers = headers_text(&headers);
                self.outputs.push(format!("publish {subject}{headers}{}", payload_text(&data)));
                self.waiting.push((request, subject));
            }
            Output::Request { request, subject, data, headers, timeout } => {
                let (timeout, headers) = (humantime::format_duration(timeout), headers_text(&headers));
                self.outputs
                    .push(format!("request {subject} within {timeout}{headers}{}", payload_text(&data)));
                self.waiting.push((request, subject));
            }
            Output::Query { .. } => return broken("it has an output that only HTTP requests can have"),
            Output::Close { code, .. } => {
                self.outputs.push(format!("close {code}"));
                self.subscriptions.clear();
                self.closed = true;
            }
        }
        Ok(())
    }

    /// Handles outputs about channels.
    fn channel(&mut self, output: Output) -> Result<(), Fault> {
        match output {
            Output::Join { subscription, pattern, format, class, max_rate, subscription_context } => {
                let rate = max_rate.map(|rate| format!(" max_rate {}", humantime::format_duration(rate)));
                self.outputs.push(format!("join {pattern}{}", rate.unwrap_or_default()));
                let joining = Subscription {
                    pattern,
                    format,
                    class,
                    subscription_context,
                    place: SubscriptionPlace::Joining,
                    since: 0,
                };
                if self.subscriptions.insert(subscription, joining).is_some() {
                    return broken("two subscriptions have one id");
                }
            }
            Output::Filter { subscription, filter } => {
                let id = subscription;
                let subscription = self.there(id)?;
                let mut values: String =
                    filter.values.iter().flatten().map(|value| format!(" {value}")).collect();
                values.extend(filter.not.iter().map(|value| format!(" not {value}")));
                values.extend(filter.min.map(|min| format!(" min {min}")));
                values.extend(filter.max.map(|max| format!(" max {max}")));
                let outputs = format!("filter {} {}{values}", subscription.pattern, filter.name);
                match &subscription.subscription_context {
                    // The session has set the filter.
                    Some(subscription_context) if subscription_context.filter.borrow().is_some() => {}
                    Some(_) | None => return broken("it filters a subscription without a context"),
                }
                self.outputs.push(outputs);
                self.elements.note_joined(id);
            }
            Output::Recover { pattern, after, .. } => {
                self.outputs.push(format!("recover {pattern} after {} of {}", after.seq, after.epoch.0));
            }
            Output::GoLive { subscription } => {
                let subscription = self.there(subscription)?;
                if subscription.place != SubscriptionPlace::Held {
                    return broken("it makes a subscription live that is not held");
                }
                subscription.place = SubscriptionPlace::Live;
                let output = format!("live {}", subscription.pattern);
                self.outputs.push(output);
            }
            Output::Leave { subscription } => {
                let outputs = format!("leave {}", self.there(subscription)?.pattern);
                self.subscriptions.remove(&subscription);
                self.kept.retain(|kept| kept.subscription != subscription);
                self.outputs.push(outputs);
            }
            Output::Send { .. }
            | Output::Release { .. }
            | Output::Deliver { .. }
            | Output::DeliverSnapshot { .. }
            | Output::Ping
            | Output::Denied(_)
            | Output::Refused(_)
            | Output::Authenticate { .. }
            | Output::TrustIdentity { .. }
            | Output::Publish { .. }
            | Output::Request { .. }
            | Output::Query { .. }
            | Output::Close { .. } => {}
        }
        Ok(())
    }

    fn there(&mut self, subscription: SubscriptionId) -> Result<&mut Subscription, Fault> {
        let there = self.subscriptions.get_mut(&subscription);
        there.ok_or_else(|| Fault::Broken { what: "it names a subscription that it does not have".into() })
    }

    fn input(&mut self, input: &ShellInput) -> Result<Input, Fault> {
        Ok(match input {
            ShellInput::Joined { channel, stale_for } => {
                let subscription = self.on(channel)?;
                self.there(subscription)?.place = SubscriptionPlace::Held;
                let stale = stale_for.map(|silent| self.wall() - silent);
                Input::Joined { subscription, snapshot: self.snapshot(subscription), stale, position: None }
            }
            ShellInput::Unjoined { channel, code } => {
                Input::JoinFailed { subscription: self.on(channel)?, error: error(*code) }
            }
            ShellInput::Lost { channel, cause, dropped } => {
                self.elements.note_loss(channel);
                Input::Lost { subscription: self.on(channel)?, cause: *cause, dropped: *dropped, range: None }
            }
            ShellInput::Stale { channel, stale_for } => {
                Input::Stale { subscription: self.on(channel)?, since: self.wall() - *stale_for }
            }
            ShellInput::Authenticated { persona } => {
                Input::Authenticated(Ok(verified(self.persona(persona)?, self.now)))
            }
            ShellInput::Narrowed { persona } => {
                Input::Narrowed(verified(self.persona(persona)?, self.now).identity)
            }
            ShellInput::Unauthenticated => Input::Authenticated(Err(error(ErrorCode::Unauthorized))),
            ShellInput::Published { subject } => {
                Input::Published { request: self.oldest(subject)?, result: Ok(()) }
            }
            ShellInput::Unpublished { subject, code } => {
                Input::Published { request: self.oldest(subject)?, result: Err(error(*code)) }
            }
            ShellInput::Replied { subject, payload } => Input::Replied {
                request: self.oldest(subject)?,
                result: Ok(Payload::classify(payload.clone())),
            },
            ShellInput::Unreplied { subject, code } => {
                Input::Replied { request: self.oldest(subject)?, result: Err(error(*code)) }
            }
            ShellInput::Alive => Input::Alive,
            ShellInput::Failed(disconnect) => Input::Disconnect(*disconnect),
            ShellInput::Drain { retry_after } => Input::Drain { retry_after: *retry_after },
        })
    }

    fn on(&self, channel: &Pattern) -> Result<SubscriptionId, Fault> {
        let there = || self.subscriptions.iter().filter(|(_, subscription)| subscription.pattern == *channel);
        let joining = there().find(|(_, subscription)| subscription.place == SubscriptionPlace::Joining);
        let found = joining.or_else(|| there().next()).map(|(id, _)| *id);
        found.ok_or_else(|| Fault::NotJoined { channel: channel.to_string() })
    }

    fn persona(&self, name: &str) -> Result<&Persona, Fault> {
        let known = self.personas.iter().find(|known| known.name == name);
        known.ok_or_else(|| Fault::UnknownIdentity { name: name.to_owned() })
    }

    fn oldest(&mut self, subject: &Subject) -> Result<u32, Fault> {
        let found = self.waiting.iter().position(|(_, waiting)| waiting == subject);
        let found = found.ok_or_else(|| Fault::NotWaiting { subject: subject.to_string() })?;
        Ok(self.waiting.remove(found).0)
    }
}

fn broken<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken { what: what.into() })
}

fn verified(persona: &Persona, now: Instant) -> Verified {
    Verified {
        identity: Arc::new(persona.identity.clone()),
        expires: persona.expires_in.map(|expires_in| now + expires_in),
    }
}

fn error(code: ErrorCode) -> ClientError {
    ClientError::new(code, "these words are the shell's")
}

/// Binds the vocabulary to the transcript's path. A persona with `trust_client_identity` names its user in the member
/// `user_id` of its messages, if the handshake has no identity.
fn bind(vocabulary: &Arc<CompiledVocabulary>, transcript: &Transcript) -> Result<Binding, Fault> {
    let target = || transcript.target.clone();
    let (path, query) = transcript.target.split_once('?').unwrap_or((&transcript.target, ""));
    let binding =
        vocabulary.bind(VocabularyId(1), path, Some(query), |_| None).map_err(|no_match| match no_match {
            NoMatch::UnknownPath => Fault::NoPath { target: target() },
            NoMatch::BadValue | NoMatch::BadParameter(_) => Fault::BadPath { target: target() },
        })?;
    let trusts_hint = transcript.personas.iter().any(|persona| persona.credential == Credential::Name);
    let named = || Placeholder::parse("msg.user_id", TimeFormat::default()).ok().map(Arc::new);
    let identity_hint = trusts_hint.then(named).flatten();
    Ok(Binding { identity_hint, ..binding })
}

mod elements;
