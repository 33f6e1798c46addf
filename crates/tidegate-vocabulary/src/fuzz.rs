//! Fuzz: bytes of any kind as what clients and callers of a described vocabulary say. In tests only.

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
use tidegate_protocol::identity::Identity;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::payload::is_json;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::subject::Pattern;

use crate::binding::Binding;
use crate::channel::Channel;
use crate::http::Lookup;
use crate::http::answer::HttpAnswer;
use crate::model::Act;
use crate::model::CompiledVocabulary;
use crate::model::HttpAction;

/// What a vocabulary has understood of some bytes: commands, refusals and calls, of every path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    /// Commands.
    pub commands: usize,
    /// Messages that are refused.
    pub refusals: usize,
    /// HTTP calls that ask for something.
    pub calls: usize,
}

/// A vocabulary, and what it may ever ask for.
#[derive(Debug)]
pub struct Target {
    described: Arc<CompiledVocabulary>,
    /// What covers each of its subjects, and whether that has wildcards of its own.
    reach: Vec<(Pattern, bool)>,
    ways: Vec<Binding>,
    who: Identity,
}

impl Target {
    /// That vocabulary, entered by each of its paths.
    pub fn new(described: &Arc<CompiledVocabulary>) -> Self {
        let enter = |template: &str| described.enter(1, &plain(template), None, |_| None).ok();
        let ways = described.paths.iter().filter_map(|path| enter(&path.template));
        let claims = Some(r#"{"accounts":["ACC1","ACC7"]}"#.into());
        Self {
            reach: reach(described),
            ways: ways.collect(),
            who: Identity { user: "alice".into(), claims, ..Identity::default() },
            described: Arc::clone(described),
        }
    }

    /// What becomes of these bytes as a message on every path, as a payload that is shown, as a body, a path and a
    /// query. A panic is a fault of ours, and so is a subject that no rule can make, and an answer that is no JSON.
    pub fn run(&self, bytes: &[u8], is_known: bool) -> Understood {
        let identity = is_known.then_some(&self.who);
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
        let mut understood = Understood::default();
        for way in &self.ways {
            self.inbound(way, scope, &event, &mut understood);
        }
        self.show(bytes);
        if let Some(text) = text {
            self.call(scope, text, &mut understood);
            if let Ok(binding) = self.described.enter(1, text, Some(text), |_| Some(text)) {
                self.come(&binding, scope);
            }
        }
        understood
    }

    fn inbound(
        &self,
        way: &Binding,
        scope: SessionScope<'_>,
        event: &ClientMessage,
        understood: &mut Understood,
    ) {
        let _ = (way.credential(event), way.claimed_user(scope, event));
        match way.decode(scope, event) {
            Ok(command) => {
                understood.commands += 1;
                self.check(way, scope, &command, event);
            }
            Err(undecodable) => {
                understood.refusals += 1;
                let reply =
                    Reply::Error { asked: undecodable.asked, channel: None, refusal: undecodable.refusal };
                whole(way.reply(scope, &reply));
            }
        }
    }

    fn come(&self, way: &Binding, scope: SessionScope<'_>) {
        let _ = (way.permits(scope), way.label(scope));
        for command in way.on_connect(scope).into_iter().flatten() {
            self.check(way, scope, &command, &ClientMessage::Text(String::new()));
        }
    }

    /// That a command stays within what the rules name, and that its answers are JSON.
    fn check(&self, way: &Binding, scope: SessionScope<'_>, command: &Command, event: &ClientMessage) {
        let mut subscription_context = None;
        let asked = match command {
            Command::Subscribe { asked, wanted } => {
                wanted.channels.iter().flatten().for_each(|channel| self.within(channel));
                let channels = wanted.channels.iter().flatten();
                let pattern = channels.filter_map(|channel| Pattern::parse(channel).ok()).next();
                subscription_context = pattern.and_then(|pattern| {
                    let format = way.format(&pattern);
                    Some((way.subscription_context(scope, &pattern, format.route, wanted)?, pattern, format))
                });
                asked
            }
            Command::Unsubscribe { asked, channels, .. } => {
                channels.iter().flatten().flatten().for_each(|channel| self.within(channel));
                asked
            }
            Command::Filter { asked, channel, .. } => {
                self.within(channel);
                asked
            }
            Command::Publish { asked, channel, data, .. } | Command::Request { asked, channel, data, .. } => {
                self.within(channel);
                assert!(Pattern::parse(channel).is_ok_and(|subject| subject.is_literal()), "{channel}");
                assert!(std::str::from_utf8(data).is_ok_and(is_json), "{data:?}");
                asked
            }
            Command::Auth { asked, .. }
            | Command::Statistics { asked }
            | Command::Ping { asked }
            | Command::Say { asked } => asked,
            Command::LastValues { asked, channels } => {
                channels.iter().for_each(|channel| self.within(channel));
                asked
            }
            Command::Pong | Command::Close { .. } | Command::Echo(..) => return,
        };
        replies(way, scope, asked.as_ref(), event);
        if let Some((subscription_context, pattern, format)) = subscription_context {
            let subject = pattern.as_str().replace('*', "x").into();
            let shown = Renderers::new([Arc::clone(&self.described) as _]).publication(
                format,
                pattern.text(),
                &publication(subject, Payload::classify(Bytes::from_static(b"{\"a\":1}"))),
            );
            if let Rendered::Frame(frame) = shown {
                whole(subscription_context.own(&frame));
            }
        }
    }

    fn within(&self, channel: &str) {
        let is_within = Pattern::parse(channel).is_ok_and(|pattern| {
            let mut covering = self.reach.iter().filter(|(reach, _)| reach.covers(&pattern));
            covering.any(|(_, is_wild)| *is_wild || pattern.is_literal())
        });
        assert!(is_within, "{channel:?} is what no rule of {} names", self.described.name);
    }

    /// The bytes as a payload, for every rule that shows one.
    fn show(&self, bytes: &[u8]) {
        let payload = Payload::classify(Bytes::copy_from_slice(bytes));
        for (show, route) in self.described.shows.iter().zip(self.described.paths.len()..) {
            let subject = show.pattern.as_str().replace(['*', '>'], "x").into();
            let Ok(route) = u16::try_from(route) else { return };
            if let Rendered::Frame(frame) =
                self.described.render(route, &publication(subject, payload.clone()))
            {
                let spliced = frame.filled(|_| None);
                assert!(std::str::from_utf8(spliced.message()).is_ok_and(is_json), "{frame:?}");
            }
        }
    }

    /// The text as the body and as the query of every call.
    fn call(&self, scope: SessionScope<'_>, text: &str, understood: &mut Understood) {
        for call in &self.described.calls {
            for body in [Some(text), None] {
                let path = plain(&call.template);
                let found = self.described.lookup(1, &call.method, &path, Some(text), |_| Some(text));
                let Lookup::Found(route) = found else { continue };
                let Ok(accepted) = route.accept(scope, body.map(str::to_owned)) else { continue };
                if let HttpAnswer::Json(_, answer) = accepted.health(scope, "ok") {
                    assert!(answer.is_empty() || is_json(&answer), "{answer:?}");
                }
                if matches!(call.action, HttpAction::Receive) {
                    understood.calls += 1;
                    continue;
                }
                let (dialect, body) = accepted.into_message();
                let Ok(command) = dialect.decode(scope, &ClientMessage::Text(body)) else { continue };
                understood.calls += 1;
                for answer in self.answers(&*dialect, scope, command, text) {
                    assert!(answer.is_empty() || is_json(&answer), "{answer:?}");
                }
            }
        }
    }

    /// That what a call asks for stays within what the routes name; and all that it may be answered.
    fn answers(
        &self,
        dialect: &dyn Dialect,
        scope: SessionScope<'_>,
        command: Command,
        text: &str,
    ) -> Vec<String> {
        if let Command::Publish { channel, .. } | Command::Request { channel, .. } = &command {
            self.within(channel);
        } else if let Command::LastValues { channels, .. } = &command {
            channels.iter().for_each(|channel| self.within(channel));
        }
        let asked = command.asked().cloned();
        let payload = Payload::classify(Bytes::copy_from_slice(text.as_bytes()));
        let replies = [
            Reply::Published { asked: asked.clone() },
            Reply::Replied { asked: asked.clone(), data: payload.clone() },
            Reply::LastValues { asked: asked.clone(), values: vec![payload] },
            Reply::Statistics { asked, json: "{}".into() },
        ];
        let answers = replies.iter().filter_map(|reply| dialect.reply(scope, reply));
        let json = |frame| match HttpAnswer::of(&[frame]) {
            HttpAnswer::Json(_, json) => Some(json),
            HttpAnswer::Status(_) | HttpAnswer::NoValue | HttpAnswer::Refused(_) => None,
        };
        answers.filter_map(json).collect()
    }
}

/// What a command may be answered: done, with a reply, or refused.
fn replies(way: &Binding, scope: SessionScope<'_>, asked: Option<&RequestContext>, event: &ClientMessage) {
    let asked = asked.cloned();
    let bytes = if let ClientMessage::Text(text) = event { Bytes::from(text.clone()) } else { Bytes::new() };
    let refusal = ClientError::new(ErrorCode::Service, String::from_utf8_lossy(&bytes));
    let channel = Some(String::from_utf8_lossy(&bytes).into_owned());
    whole(way.reply(scope, &Reply::Said { asked: asked.clone() }));
    whole(way.reply(scope, &Reply::Error { asked: asked.clone(), channel, refusal }));
    whole(way.reply(scope, &Reply::Replied { asked, data: Payload::classify(bytes) }));
}

fn whole(frame: Option<Frame>) {
    let Some(frame) = frame else { return };
    assert!(std::str::from_utf8(frame.message()).is_ok_and(is_json), "{frame:?}");
}

fn publication(subject: Arc<str>, payload: Payload) -> Publication {
    let headers = vec![("Name".to_owned(), "\"\\\u{2028}".to_owned())];
    Publication { key: Arc::clone(&subject), subject, payload, headers, time: SystemTime::UNIX_EPOCH }
}

/// A path with a plain value for each of its parameters.
fn plain(template: &str) -> String {
    let segments =
        template.split('/').map(|segment| if segment.starts_with('{') { "alice" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// Every channel and subject that the file has a template for.
fn reach(described: &CompiledVocabulary) -> Vec<(Pattern, bool)> {
    let of_rules = described.rules.iter().flat_map(|rule| named(&rule.act));
    let of_calls = described.calls.iter().flat_map(|call| match &call.action {
        HttpAction::Act(act) => named(act),
        HttpAction::Last { channels, .. } => channels,
        HttpAction::Stats | HttpAction::Receive | HttpAction::Health | HttpAction::Console => &[],
    });
    of_rules.chain(of_calls).map(|channel| (channel.reach(), channel.is_wild())).collect()
}

fn named(act: &Act) -> &[Channel] {
    match act {
        Act::Subscribe(wants) => &wants.channels,
        Act::Unsubscribe { channels, .. } => channels,
        Act::Filter { channel, .. } => std::slice::from_ref(channel),
        Act::Publish { subject, .. } | Act::Request { subject, .. } => std::slice::from_ref(subject),
        Act::Auth(_) | Act::Send | Act::Pong | Act::Ignore | Act::Error { .. } | Act::Close { .. } => &[],
    }
}
