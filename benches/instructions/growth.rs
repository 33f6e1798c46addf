//! Growth: each kind of message that a client or an HTTP caller can send, made longer in every way that JSON has. Twice the
//! message, and twice as many subscriptions to hold it against, may cost twice as much and no more.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use serde_json::Value;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::message::Query;
use tidegate_protocol::message::QueryResult;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::native::Native;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::permissions::Rules;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::http::AcceptedRequest;
use tidegate_vocabulary::http::Lookup;
use tidegate_vocabulary::http::answer::HttpAnswer;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::transcript::Action;
use tidegate_vocabulary::transcript::Transcript;
use tidegate_vocabulary::transcript::default_settings;

use crate::callgrind;
use crate::callgrind::section;
use crate::node::moment;

/// Elements, members, levels or octets by eight of the shorter message; the longer one has twice as many.
const SIZE: usize = 120;
/// Is in a message for the part that grows.
const PLACE: &str = "\"@@\"";
const NAMES: [&str; 8] =
    ["native", "ara", "financegpt", "financegpt-mcp", "graphql-ws", "hoardrun", "sentio", "stock-agent"];

/// Counts each, and says and gives how many cost too much.
pub(crate) fn check() -> usize {
    let cases = cases();
    let counts = callgrind::run("growth");
    assert_eq!(counts.len(), 2 * cases.len(), "two sections for each");
    let pairs = cases.iter().zip(counts.chunks_exact(2));
    let steep: Vec<_> = pairs.filter(|(_, counts)| counts[1] > limit(counts[0])).collect();
    for (case, counts) in &steep {
        let [once, twice] = [counts[0], counts[1]];
        println!("{}: {once} instructions, and {twice} for twice as much", case.name);
    }
    println!("instructions: {} passed, {} failed", cases.len() - steep.len(), steep.len());
    steep.len()
}

/// Twice as much, a tenth for tables that grow in steps, and something for what has nothing to do with it.
fn limit(instructions: u64) -> u64 {
    instructions * 22 / 10 + 50_000
}

/// What callgrind counts: each case at both sizes.
pub(crate) fn count() {
    for case in cases() {
        for size in [SIZE, 2 * SIZE] {
            case.language.measure(&case.kind, &case.variant, size);
        }
    }
}

/// One kind of message, and one way in which it grows.
struct Case {
    name: String,
    language: Rc<Language>,
    kind: Kind,
    variant: Variant,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in NAMES {
        let language = Rc::new(Language::read(name));
        for kind in language.kinds() {
            for (grown, variant) in variants(&kind.text) {
                let name = format!("{name} {} {grown}: {}", kind.target, kind.text);
                cases.push(Case { name, language: Rc::clone(&language), kind: kind.clone(), variant });
            }
        }
    }
    cases
}

/// A frontend's language, and what its transcripts say in it.
struct Language {
    described: Option<Arc<CompiledVocabulary>>,
    said: BTreeSet<Kind>,
    settings: Rc<Settings>,
}

/// One kind of message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// Where the client comes in, or what the caller calls.
    target: String,
    /// The method of a call; empty for a message on a socket.
    method: String,
    /// An example.
    text: String,
}

impl Language {
    fn read(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read_to_string(root.join(format!("vocabularies/{name}.toml"))).ok();
        let described = file.map(|file| Arc::new(compile(&file).unwrap().described));
        let mut said = BTreeSet::new();
        for entry in std::fs::read_dir(root.join("tests/transcripts").join(name)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let transcript = Transcript::parse(&text).unwrap();
            for step in transcript.steps {
                let (method, target, text) = match step.action {
                    Action::Client(ClientMessage::Text(text)) => {
                        (String::new(), plain(&transcript.target).to_owned(), text)
                    }
                    Action::Call(call) => (call.method, call.target, call.body.unwrap_or_default()),
                    Action::Client(ClientMessage::Binary(_))
                    | Action::Server(_)
                    | Action::Asked(_)
                    | Action::Answer(_)
                    | Action::Publication(_)
                    | Action::After(_)
                    | Action::Called { .. } => continue,
                };
                said.insert(Kind { target, method, text });
            }
        }
        let settings = Settings {
            commands: Rate { per_second: 1_000_000, burst: 1_000_000 },
            requests_in_flight: 1_000_000,
            max_errors: u32::MAX,
            ..default_settings()
        };
        Self { described, said, settings: Rc::new(settings) }
    }

    /// One message for each rule that takes it and each set of members: what else differs is not looked at.
    fn kinds(&self) -> Vec<Kind> {
        let mut seen = BTreeSet::new();
        let kinds = self.said.iter().filter(|kind| {
            let value: Value = serde_json::from_str(&kind.text).unwrap_or_default();
            let members = value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
            let rule = if kind.method.is_empty() { self.rule(kind, &value) } else { kind.method.clone() };
            seen.insert((kind.method.clone(), rule, members))
        });
        kinds.cloned().collect()
    }

    fn rule(&self, kind: &Kind, value: &Value) -> String {
        let who = identity();
        let dialect = self.enter(&kind.target);
        let event = ClientMessage::Text(kind.text.clone());
        let asked = match dialect.decode(scene(&who), &event) {
            Ok(command) => command.asked().cloned(),
            Err(undecodable) => undecodable.asked,
        };
        match asked {
            Some(RequestContext::Message(question)) => format!("{:?}", question.rule),
            Some(RequestContext::Id(_)) | None => value["type"].to_string(),
        }
    }

    fn enter(&self, target: &str) -> Arc<dyn Dialect> {
        let Some(described) = &self.described else { return Arc::new(Native) };
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Arc::new(described.enter(1, path, query, |_| None).ok().unwrap())
    }

    fn measure(&self, kind: &Kind, variant: &Variant, size: usize) {
        let text = variant.text(size);
        if !kind.method.is_empty() {
            return self.call(kind, text);
        }
        let mut session = self.session(&kind.target);
        for prepared in self.prepared(kind, size) {
            hear(&mut session, prepared);
        }
        let mut text = Some(text);
        section(&mut || text.take().into_iter().for_each(|text| hear(&mut session, text)));
    }

    /// A session of somebody who may do everything.
    fn session(&self, target: &str) -> Session {
        let verified = Verified { identity: Arc::new(identity()), expires: None };
        let now = Instant::now();
        let settings = Rc::clone(&self.settings);
        let mut session =
            Session::new("s1".into(), self.enter(target), settings, Some(verified), moment(now));
        answer_all(&mut session, now);
        session
    }

    /// What fills the session before: every list of every message on this path, grown; where there is none, every message
    /// so often, with another word in place of each of its texts.
    fn prepared(&self, kind: &Kind, size: usize) -> Vec<String> {
        let mut prepared: Vec<String> = Vec::new();
        let here = self.said.iter().filter(|said| said.method.is_empty() && said.target == kind.target);
        let joins = |said: &&Kind| said.text.contains("\"subscribe\"") || said.text.contains("join_");
        // A list that the message has already, before one that takes the place of something else.
        let variants: Vec<_> = here.filter(joins).flat_map(|said| variants(&said.text)).collect();
        let lists = variants
            .iter()
            .filter(|(grown, variant)| grown.ends_with("distinct") && variant.model.starts_with('['));
        prepared.extend(lists.take(1).map(|(_, variant)| variant.text(size)));
        if prepared.is_empty() {
            let words =
                variants.iter().filter(|(grown, _)| grown.ends_with("word") && !grown.starts_with("type"));
            for (_, variant) in words.take(3) {
                prepared.extend((0..size / 4).map(|number| variant.text(number)));
            }
        }
        prepared
    }

    /// An HTTP call: the body or, where there is none, the query grows.
    fn call(&self, kind: &Kind, text: String) {
        let who = Arc::new(identity());
        let (path, query) = kind
            .target
            .split_once('?')
            .map_or((kind.target.as_str(), None), |(path, query)| (path, Some(query)));
        let (query, body) = if kind.text.is_empty() {
            (Some(query.unwrap_or("symbols=@@").to_owned() + &text), None)
        } else {
            (query.map(str::to_owned), Some(text))
        };
        let described = self.described.as_ref().unwrap();
        // As many channels as there is room for in a message, in place of those that one call may name.
        let settings = Rc::new(Settings { max_subscriptions: usize::MAX, ..(*self.settings).clone() });
        section(&mut || {
            let found = described.lookup(1, &kind.method, path, query.as_deref(), |_| None);
            if let Lookup::Found(route) = found
                && let Ok(accepted) = route.accept(scene(&who), body.clone())
            {
                answer(accepted, &who, &settings);
            }
        });
    }
}

/// What a call asks for, and its answer.
fn answer(accepted: AcceptedRequest, who: &Arc<Identity>, settings: &Rc<Settings>) {
    let (dialect, body) = accepted.into_message();
    let verified = Verified { identity: Arc::clone(who), expires: None };
    let now = Instant::now();
    let mut session =
        Session::of_one_message("s1".into(), dialect, Rc::clone(settings), verified, moment(now));
    session.handle_input(Input::Received(ClientMessage::Text(body)), moment(now));
    std::hint::black_box(HttpAnswer::of(&answer_all(&mut session, now)));
}

fn identity() -> Identity {
    let rules = || Rules { allow: vec![Pattern::everything()], deny: Vec::new() };
    let permissions =
        Permissions { subscribe: rules(), publish: rules(), request: rules(), stats: StatsAccess::All };
    Identity {
        user: "alice".into(),
        permissions: Arc::new(permissions),
        claims: Some(r#"{"accounts":["ACC1","ACC7"]}"#.into()),
        ..Identity::default()
    }
}

fn scene(who: &Identity) -> SessionScope<'_> {
    SessionScope {
        session: "s1",
        node: "n1",
        identity: Some(who),
        now: SystemTime::UNIX_EPOCH,
        ..SessionScope::default()
    }
}

/// A message, and all that its session says and asks, each question answered.
fn hear(session: &mut Session, text: String) {
    let now = Instant::now();
    session.handle_input(Input::Received(ClientMessage::Text(text)), moment(now));
    answer_all(session, now);
}

fn answer_all(session: &mut Session, now: Instant) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(output) = session.poll_output() {
        let input = match output {
            Output::Join { subscription, .. } => {
                Input::Joined { subscription, snapshot: Vec::new(), stale: None }
            }
            Output::Authenticate { .. } | Output::TrustClientIdentity { .. } => {
                Input::Authenticated(Ok(Verified { identity: Arc::new(identity()), expires: None }))
            }
            Output::Publish { request, .. } => Input::Published { request, result: Ok(()) },
            Output::Request { request, .. } => {
                Input::Replied { request, result: Ok(Payload::classify(r#"{"a":1}"#.into())) }
            }
            Output::Query { request, query } => {
                let value = Payload::classify(r#"{"a":1}"#.into());
                let found = match query {
                    Query::LastValues { channels } => QueryResult::LastValues(vec![value; channels.len()]),
                    Query::Statistics { .. } => QueryResult::Statistics("{}".into()),
                };
                Input::Queried { request, result: Ok(found) }
            }
            Output::Send { frame, .. } => {
                frames.push(frame);
                continue;
            }
            Output::Deliver { .. }
            | Output::Ping
            | Output::Filter { .. }
            | Output::GoLive { .. }
            | Output::Release { .. }
            | Output::Leave { .. }
            | Output::Close { .. } => continue,
        };
        session.handle_input(input, moment(now));
    }
    frames
}

/// A target's path and query without the token, which is a name in transcripts.
fn plain(target: &str) -> &str {
    target.split_once("?token=").map_or(target, |(path, _)| path)
}

/// A message with one part that grows.
pub(crate) struct Variant {
    before: String,
    after: String,
    part: fn(&str, usize) -> String,
    model: String,
}

impl Variant {
    fn text(&self, size: usize) -> String {
        format!("{}{}{}", self.before, (self.part)(&self.model, size), self.after)
    }
}

/// Every way in which a message can grow: each of its values becomes a list, a nest, a long text, an object.
fn variants(text: &str) -> Vec<(String, Variant)> {
    let whole = |grown: &str, part| {
        let variant = Variant { before: String::new(), after: text.to_owned(), part, model: String::new() };
        (grown.to_owned(), variant)
    };
    if text.is_empty() {
        return vec![whole("query", |_, size| (0..size).map(|n| format!(",S{n}")).collect())];
    }
    let mut variants = vec![whole("blanks", |_, size| " ".repeat(8 * size))];
    let Ok(value) = serde_json::from_str::<Value>(text) else { return variants };
    let mut places = Vec::new();
    collect(&value, &mut Vec::new(), &mut places);
    for (place, model) in places {
        let mut holed = value.clone();
        *at(&mut holed, &place) = Value::String("@@".to_owned());
        let holed = holed.to_string();
        let Some((before, after)) = holed.split_once(PLACE) else { continue };
        let name = place.join(".");
        for (grown, part) in parts(&model) {
            let model = model.to_string();
            let variant = Variant { before: before.to_owned(), after: after.to_owned(), part, model };
            variants.push((format!("{name} {grown}"), variant));
        }
    }
    variants
}

type Part = fn(&str, usize) -> String;

/// What may take the place of a value.
fn parts(model: &Value) -> Vec<(&'static str, Part)> {
    let mut parts: Vec<(&'static str, Part)> = vec![
        ("distinct", |model, size| list(size, |number| distinct(model, number))),
        ("repeated", |model, size| list(size, |_| distinct(model, 1))),
        ("sevens", |_, size| list(size, |_| "7".to_owned())),
        ("lists in lists", |_, size| "[".repeat(size) + &"]".repeat(size)),
        ("objects in objects", |_, size| "{\"a\":".repeat(size) + "1" + &"}".repeat(size)),
        ("members", |_, size| object(size)),
        ("long", |_, size| format!("\"{}\"", "x".repeat(8 * size))),
        ("escapes", |_, size| format!("\"{}\"", "\\\"".repeat(4 * size))),
    ];
    if model.is_string() {
        parts.push(("word", |model, number| distinct(model, number)));
        parts.push(("words", |model, size| {
            let word = model.trim_matches('"');
            format!("\"{}\"", vec![word; size].join(","))
        }));
    }
    parts
}

fn list(size: usize, element: impl Fn(usize) -> String) -> String {
    format!("[{}]", (0..size).map(element).collect::<Vec<_>>().join(","))
}

fn object(size: usize) -> String {
    let members: Vec<_> = (0..size).map(|number| format!("\"m{number}\":{number}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Something like the model, or like its first element, that is another one for each number.
fn distinct(model: &str, number: usize) -> String {
    let model =
        model.strip_prefix('[').map_or(model, |list| list.split([',', ']']).next().unwrap_or_default());
    match model.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) if text.starts_with('$') => format!("\"x{number}\""),
        Some(text) => format!("\"{text}{number}\""),
        None => format!("\"x{number}\""),
    }
}

fn collect(value: &Value, place: &mut Vec<String>, places: &mut Vec<(Vec<String>, Value)>) {
    if !place.is_empty() {
        places.push((place.clone(), value.clone()));
    }
    if let Value::Object(members) = value {
        for (name, value) in members {
            place.push(name.clone());
            collect(value, place, places);
            place.pop();
        }
    }
}

fn at<'v>(value: &'v mut Value, place: &[String]) -> &'v mut Value {
    place.iter().fold(value, |value, name| &mut value[name])
}
