//! Fuzz: feeds arbitrary bytes to a vocabulary as messages, payloads and HTTP requests. For tests only.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::LastValue;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::payload::is_json;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::subject::Pattern;

use crate::binding::Binding;
use crate::channel::Channel;
use crate::channel::MAX_DOTTED_TOKENS;
use crate::http::Lookup;
use crate::http::answer::HttpAnswer;
use crate::model::CompiledVocabulary;
use crate::model::HttpAction;
use crate::model::RuleAction;
use crate::route::DeliverIndex;
use crate::route::Route;

/// How much of some bytes a vocabulary accepted, over all paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FuzzCounts {
    pub commands: usize,
    /// Messages that were rejected.
    pub refusals: usize,
    /// HTTP requests that were accepted.
    pub calls: usize,
}

/// A vocabulary, and the subjects that it may use.
#[derive(Debug)]
pub struct Target {
    vocabulary: Arc<CompiledVocabulary>,
    reach: Vec<Reach>,
    bindings: Vec<Binding>,
    identity: Identity,
}

/// What the subjects of one template may be.
#[derive(Debug)]
struct Reach {
    /// A pattern that covers them.
    pattern: Pattern,
    /// Whether the template itself has wildcards.
    is_wild: bool,
    max_tokens: usize,
}

/// The values of parameters of paths. Paths do not accept the last one if a parameter must be one token.
const PARAMETERS: [&str; 2] = ["alice", "BRK.B"];

impl Target {
    /// A vocabulary, bound to each of its paths.
    pub fn new(vocabulary: &Arc<CompiledVocabulary>) -> Self {
        let bind = |template: &str, value: &str| {
            vocabulary.bind(VocabularyId(1), &concrete_path(template, value), None, |_| None).ok()
        };
        let bindings = vocabulary.paths.iter().flat_map(|path| {
            let values = if path.template.contains('{') { &PARAMETERS[..] } else { &PARAMETERS[..1] };
            values.iter().filter_map(move |value| bind(&path.template, value))
        });
        let claims = Some(Arc::new(r#"{"accounts":["ACC1","ACC7"]}"#.to_owned()));
        Self {
            reach: reach(vocabulary),
            bindings: bindings.collect(),
            identity: Identity { user: "alice".into(), claims, ..Identity::default() },
            vocabulary: Arc::clone(vocabulary),
        }
    }

    /// Runs these bytes as a message on every path, as a payload, and as an HTTP body, path and query. Panics if
    /// Tidegate panics, uses a subject that no rule names, or answers with invalid JSON.
    pub fn run(&self, bytes: &[u8], is_known: bool) -> FuzzCounts {
        let identity = is_known.then_some(&self.identity);
        let scope = SessionScope {
            session: "s1",
            node: "n1",
            identity,
            now: SystemTime::UNIX_EPOCH,
            ..SessionScope::default()
        };
        let text = std::str::from_utf8(bytes).ok();
        let event = text.map_or_else(
            || ClientMessage::Binary(Bytes::copy_from_slice(bytes)),
            |text| ClientMessage::Text(text.to_owned()),
        );
        let mut counts = FuzzCounts::default();
        for binding in &self.bindings {
            self.decode(binding, scope, &event, &mut counts);
        }
        self.render(bytes);
        if let Some(text) = text {
            self.request(scope, text, &mut counts);
            if let Ok(binding) =
                self.vocabulary.bind(VocabularyId(1), text, Some(text), |_| Some(text.as_bytes()))
            {
                self.connect(&binding, scope);
            }
        }
        counts
    }

    fn decode(
        &self,
        binding: &Binding,
        scope: SessionScope<'_>,
        event: &ClientMessage,
        counts: &mut FuzzCounts,
    ) {
        let _ = (binding.credential(event), binding.trusted_user(scope, event));
        match binding.decode(scope, event) {
            Ok(command) => {
                counts.commands += 1;
                self.check(binding, scope, &command, event);
            }
            Err(undecodable) => {
                counts.refusals += 1;
                let reply = Reply::Error {
                    request_context: undecodable.request_context,
                    channel: None,
                    error: undecodable.error,
                };
                assert_json(binding.reply(scope, &reply));
            }
        }
    }

    fn connect(&self, binding: &Binding, scope: SessionScope<'_>) {
        let _ = (binding.permits(scope), binding.label(scope));
        for command in binding.on_connect(scope).into_iter().flatten() {
            self.check(binding, scope, &command, &ClientMessage::Text(String::new()));
        }
    }

    /// Checks that a command uses only subjects that the rules name, and that its answers are JSON.
    fn check(&self, binding: &Binding, scope: SessionScope<'_>, command: &Command, event: &ClientMessage) {
        let mut subscription_context = None;
        let request_context = match command {
            Command::Subscribe { request_context, wanted } => {
                wanted.channels.iter().flatten().for_each(|channel| self.assert_within(channel));
                let channels = wanted.channels.iter().flatten();
                let pattern = channels.filter_map(|channel| Pattern::parse(channel).ok()).next();
                subscription_context = pattern.and_then(|pattern| {
                    let format = binding.format(&pattern);
                    Some((
                        binding.subscription_context(scope, &pattern, format.route, wanted)?,
                        pattern,
                        format,
                    ))
                });
                request_context
            }
            Command::Unsubscribe { request_context, channels, .. } => {
                channels.iter().flatten().flatten().for_each(|channel| self.assert_within(channel));
                request_context
            }
            Command::Filter { request_context, channel, .. } => {
                self.assert_within(channel);
                request_context
            }
            Command::Publish { request_context, channel, data, .. }
            | Command::Request { request_context, channel, data, .. } => {
                self.assert_within(channel);
                assert!(Pattern::parse(channel).is_ok_and(|subject| subject.is_literal()), "{channel}");
                assert!(std::str::from_utf8(data).is_ok_and(is_json), "{data:?}");
                request_context
            }
            Command::Auth { request_context, .. }
            | Command::Statistics { request_context }
            | Command::Ping { request_context }
            | Command::Acknowledge { request_context } => request_context,
            Command::LastValues { request_context, channels } => {
                channels.iter().for_each(|channel| self.assert_within(channel));
                request_context
            }
            Command::Pong | Command::Close { .. } | Command::Echo(..) => return,
        };
        replies(binding, scope, request_context.as_ref(), event);
        if let Some((subscription_context, pattern, format)) = subscription_context {
            let subject = pattern.as_str().replace('*', "x").into();
            let shown = Renderers::new([Arc::clone(&self.vocabulary) as _]).publication(
                format,
                pattern.as_str(),
                &publication(subject, Payload::classify(Bytes::from_static(b"{\"a\":1}"))),
                &mut Scratch::default(),
            );
            if let Rendered::Frame(frame) = shown {
                assert_json(subscription_context.tailor(&frame));
            }
        }
    }

    fn assert_within(&self, channel: &str) {
        let is_within = Pattern::parse(channel).is_ok_and(|pattern| {
            let mut covering = self.reach.iter().filter(|reach| reach.pattern.covers(&pattern));
            covering.any(|reach| {
                (reach.is_wild || pattern.is_literal()) && pattern.tokens().count() <= reach.max_tokens
            })
        });
        assert!(is_within, "{channel:?} is not named by any rule of {}", self.vocabulary.name);
    }

    /// Renders the bytes as a payload, with every rule.
    fn render(&self, bytes: &[u8]) {
        let payload = Payload::classify(Bytes::copy_from_slice(bytes));
        for (rule, at) in self.vocabulary.deliver_rules.iter().zip((0..).map(DeliverIndex)) {
            for tail in ["x", "x.y.z"] {
                let subject = rule.pattern.as_str().replace('*', "x").replace('>', tail).into();
                let assert_sound = |frame: &Frame| {
                    let filled = frame.fill_slots(|_| None);
                    assert!(std::str::from_utf8(filled.message()).is_ok_and(is_json), "{frame:?}");
                };
                let publication = publication(subject, payload.clone());
                match self.vocabulary.render(Route::Deliver(at), &publication, &mut Scratch::default()) {
                    Rendered::Frame(frame) => assert_sound(&frame),
                    Rendered::Elements { list, .. } => {
                        for element in &list {
                            let channel = Pattern::parse(&element.channel);
                            assert!(channel.is_ok_and(|channel| channel.is_literal()));
                            element.frame().into_iter().for_each(assert_sound);
                            assert!(element.json().is_none_or(is_json), "{element:?}");
                        }
                    }
                    Rendered::Nothing | Rendered::Unrenderable | Rendered::TooManyElements => {}
                }
            }
        }
    }

    /// Sends the text as the body and the query of every HTTP route.
    fn request(&self, scope: SessionScope<'_>, text: &str, counts: &mut FuzzCounts) {
        for route in &self.vocabulary.http_routes {
            let bodies = [Some(text), None].into_iter();
            for (body, value) in bodies.flat_map(|body| PARAMETERS.map(|value| (body, value))) {
                let path = concrete_path(&route.template, value);
                let found = self
                    .vocabulary
                    .lookup(VocabularyId(1), &route.method, &path, Some(text), |_| Some(text.as_bytes()));
                let Lookup::Found(matched) = found else { continue };
                let Ok(accepted) = matched.accept(scope, body.map(str::to_owned)) else { continue };
                if let HttpAnswer::Json(_, answer) = accepted.health(scope, "ok") {
                    let answer = String::from_utf8_lossy(&answer);
                    assert!(answer.is_empty() || is_json(&answer), "{answer:?}");
                }
                if matches!(route.action, HttpAction::Receive) {
                    counts.calls += 1;
                    continue;
                }
                let (dialect, body) = accepted.into_message();
                let Ok(command) = dialect.decode(scope, &ClientMessage::Text(body)) else { continue };
                counts.calls += 1;
                for answer in self.answers(&*dialect, scope, command, text) {
                    assert!(answer.is_empty() || is_json(&answer), "{answer:?}");
                }
            }
        }
    }

    /// Checks that a request uses only subjects that the routes name, and returns its possible responses.
    fn answers(
        &self,
        dialect: &dyn Dialect,
        scope: SessionScope<'_>,
        command: Command,
        text: &str,
    ) -> Vec<String> {
        if let Command::Publish { channel, .. } | Command::Request { channel, .. } = &command {
            self.assert_within(channel);
        } else if let Command::LastValues { channels, .. } = &command {
            channels.iter().for_each(|channel| self.assert_within(channel));
        }
        let request_context = command.request_context().cloned();
        let payload = Payload::classify(Bytes::copy_from_slice(text.as_bytes()));
        let value =
            LastValue { subject: "a.b".into(), payload: payload.clone(), time: SystemTime::UNIX_EPOCH };
        let values = self.vocabulary.last_values_json(&[], &[value]);
        let replies = [
            Reply::Published { request_context: request_context.clone() },
            Reply::Replied { request_context: request_context.clone(), data: payload.clone() },
            Reply::LastValues { request_context: request_context.clone(), values },
            Reply::Statistics { request_context, json: "{}".into() },
        ];
        let answers = replies.iter().filter_map(|reply| dialect.reply(scope, reply));
        let json = |frame| match HttpAnswer::of(&[frame]) {
            HttpAnswer::Json(_, json) => Some(String::from_utf8_lossy(&json).into_owned()),
            HttpAnswer::Status(_) | HttpAnswer::NoValue | HttpAnswer::Refused(_) => None,
        };
        answers.filter_map(json).collect()
    }
}

/// Renders the possible answers to a command: success, a reply, an error.
fn replies(
    binding: &Binding,
    scope: SessionScope<'_>,
    request_context: Option<&RequestContext>,
    event: &ClientMessage,
) {
    let request_context = request_context.cloned();
    let bytes = if let ClientMessage::Text(text) = event { Bytes::from(text.clone()) } else { Bytes::new() };
    let error = ClientError::new(ErrorCode::Service, String::from_utf8_lossy(&bytes));
    let channel = Some(String::from_utf8_lossy(&bytes).into_owned());
    assert_json(binding.reply(scope, &Reply::Acknowledged { request_context: request_context.clone() }));
    assert_json(
        binding.reply(scope, &Reply::Error { request_context: request_context.clone(), channel, error }),
    );
    assert_json(binding.reply(scope, &Reply::Replied { request_context, data: Payload::classify(bytes) }));
}

fn assert_json(frame: Option<Frame>) {
    let Some(frame) = frame else { return };
    assert!(std::str::from_utf8(frame.message()).is_ok_and(is_json), "{frame:?}");
}

fn publication(subject: Arc<str>, payload: Payload) -> Publication {
    let headers = [("Name", "\"\\\u{2028}")].into_iter().collect();
    Publication { key: Arc::clone(&subject), subject, payload, headers, time: SystemTime::UNIX_EPOCH, seq: 0 }
}

/// The path with this value for each parameter.
fn concrete_path(template: &str, value: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { value } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// Every channel and subject template of the file.
fn reach(vocabulary: &CompiledVocabulary) -> Vec<Reach> {
    let of_rules = vocabulary.rules.iter().flat_map(|rule| channels_of(&rule.action));
    let of_routes = vocabulary.http_routes.iter().flat_map(|route| match &route.action {
        HttpAction::Rule(action) => channels_of(action),
        HttpAction::Last { channels, .. } => channels,
        HttpAction::Stats | HttpAction::Receive | HttpAction::Health | HttpAction::Console => &[],
    });
    let reach = |channel: &Channel| {
        let pattern = channel.reach();
        let before = pattern.tokens().count() - 1;
        // One more for `.*` after the value.
        let after = usize::from(channel.is_wild());
        let max_tokens = channel.dotted().map_or(usize::MAX, |_| before + MAX_DOTTED_TOKENS + after);
        Reach { pattern, is_wild: channel.is_wild(), max_tokens }
    };
    of_rules.chain(of_routes).map(reach).collect()
}

fn channels_of(action: &RuleAction) -> &[Channel] {
    match action {
        RuleAction::Subscribe(spec) => &spec.channels,
        RuleAction::Unsubscribe { channels, .. } => channels,
        RuleAction::Filter { channel, .. } => std::slice::from_ref(channel),
        RuleAction::Publish { subject, .. } | RuleAction::Request { subject, .. } => {
            std::slice::from_ref(subject)
        }
        RuleAction::Auth(_)
        | RuleAction::Send
        | RuleAction::Pong
        | RuleAction::Ignore
        | RuleAction::Error { .. }
        | RuleAction::Close { .. } => &[],
    }
}
