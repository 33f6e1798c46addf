//! Checks that no message costs more than its length is worth. Takes each kind of message that a client or HTTP caller
//! can send, and makes it longer in every way that JSON permits. A message of twice the length, in a session with twice
//! as many subscriptions, may cost at most twice as much.

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
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::json::list::JsonList;
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
use crate::shipped::shipped;

/// Elements, members, levels or groups of eight bytes in the shorter message; the longer one has twice as many.
const SIZE: usize = 120;
/// Marks the place in a message of the part that grows.
const PLACEHOLDER: &str = "\"@@\"";

/// Counts all cases, and prints those that cost too much. Returns their number.
pub(crate) fn check() -> usize {
    let cases = cases();
    let (counts, _) = callgrind::run("growth");
    assert_eq!(counts.len(), 2 * cases.len(), "two sections for each case");
    let pairs = cases.iter().zip(counts.chunks_exact(2));
    let too_expensive: Vec<_> = pairs.filter(|(_, counts)| counts[1] > limit(counts[0])).collect();
    for (case, counts) in &too_expensive {
        let [once, twice] = [counts[0], counts[1]];
        println!("{}: {once} instructions, and {twice} for twice the length", case.name);
    }
    println!("instructions: {} passed, {} failed", cases.len() - too_expensive.len(), too_expensive.len());
    too_expensive.len()
}

/// The limit for twice the length: double the cost, plus 10 % for tables that grow in steps, plus a constant for fixed
/// costs.
fn limit(instructions: u64) -> u64 {
    instructions * 22 / 10 + 50_000
}

/// Runs each case at both sizes, for callgrind.
pub(crate) fn count() {
    for case in cases() {
        for size in [SIZE, 2 * SIZE] {
            case.frontend.measure(&case.kind, &case.variant, size);
        }
    }
}

/// One kind of message, and one way to make it longer.
struct Case {
    name: String,
    frontend: Rc<Frontend>,
    kind: MessageKind,
    variant: Variant,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, vocabulary) in frontends() {
        let frontend = Rc::new(Frontend::read(&name, vocabulary.as_deref()));
        for kind in frontend.kinds() {
            for (growth, variant) in variants(&kind.text) {
                let name = format!("{name} {} {growth}: {}", kind.target, kind.text);
                cases.push(Case { name, frontend: Rc::clone(&frontend), kind: kind.clone(), variant });
            }
        }
    }
    cases
}

/// The names of the native protocol and of the shipped vocabularies, and the text of each vocabulary.
fn frontends() -> Vec<(String, Option<String>)> {
    let shipped = shipped(Path::new(env!("CARGO_MANIFEST_DIR")));
    let shipped = shipped.into_iter().map(|(name, text)| (name, Some(text)));
    [("native".to_owned(), None)].into_iter().chain(shipped).collect()
}

/// A frontend: its vocabulary, and the client messages and calls of its transcripts.
struct Frontend {
    vocabulary: Option<Arc<CompiledVocabulary>>,
    messages: BTreeSet<MessageKind>,
    settings: Arc<Settings>,
}

/// One kind of message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct MessageKind {
    /// The path and query of the handshake or the call.
    target: String,
    /// The method of an HTTP call; empty for a message on a socket.
    method: String,
    /// An example of the message or body.
    text: String,
}

impl Frontend {
    fn read(name: &str, vocabulary: Option<&str>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let vocabulary = vocabulary.map(|text| Arc::new(compile(text).unwrap().vocabulary));
        let mut messages = BTreeSet::new();
        for entry in std::fs::read_dir(root.join("tests/transcripts").join(name)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let transcript = Transcript::parse(&text).unwrap();
            for step in transcript.steps {
                let (method, target, text) = match step.action {
                    Action::Client(ClientMessage::Text(text)) => {
                        (String::new(), plain(&transcript.target).to_owned(), text)
                    }
                    Action::HttpRequest(request) => {
                        (request.method, request.target, request.body.unwrap_or_default())
                    }
                    Action::Client(ClientMessage::Binary(_))
                    | Action::Server(_)
                    | Action::Output(_)
                    | Action::Input(_)
                    | Action::Publication(_)
                    | Action::After(_)
                    | Action::HttpResponse { .. } => continue,
                };
                messages.insert(MessageKind { target, method, text });
            }
        }
        let settings = Settings {
            commands: Rate { per_second: 1_000_000, burst: 1_000_000 },
            requests_in_flight: 1_000_000,
            max_errors: u32::MAX,
            ..default_settings()
        };
        Self { vocabulary, messages, settings: Arc::new(settings) }
    }

    /// One example for each combination of matching rule and set of members.
    fn kinds(&self) -> Vec<MessageKind> {
        let mut seen = BTreeSet::new();
        let kinds = self.messages.iter().filter(|kind| {
            let value: Value = serde_json::from_str(&kind.text).unwrap_or_default();
            let members = value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
            let rule = if kind.method.is_empty() { self.rule(kind, &value) } else { kind.method.clone() };
            seen.insert((kind.method.clone(), rule, members))
        });
        kinds.cloned().collect()
    }

    fn rule(&self, kind: &MessageKind, value: &Value) -> String {
        let identity = identity();
        let dialect = self.dialect(&kind.target);
        let event = ClientMessage::Text(kind.text.clone());
        let request_context = match dialect.decode(scope(&identity), &event) {
            Ok(command) => command.request_context().cloned(),
            Err(undecodable) => undecodable.request_context,
        };
        match request_context {
            Some(RequestContext::Message(question)) => format!("{:?}", question.rule),
            Some(RequestContext::Id(_)) | None => value["type"].to_string(),
        }
    }

    fn dialect(&self, target: &str) -> Arc<dyn Dialect> {
        let Some(vocabulary) = &self.vocabulary else { return Arc::new(Native) };
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Arc::new(vocabulary.bind(VocabularyId(1), path, query, |_| None).ok().unwrap())
    }

    fn measure(&self, kind: &MessageKind, variant: &Variant, size: usize) {
        let text = variant.text(size);
        if !kind.method.is_empty() {
            return self.call(kind, text);
        }
        let mut session = self.session(&kind.target);
        for prepared in self.prepared(kind, size) {
            receive(&mut session, prepared);
        }
        let mut text = Some(text);
        section(&mut || text.take().into_iter().for_each(|text| receive(&mut session, text)));
    }

    /// A session of a user with all permissions.
    fn session(&self, target: &str) -> Session {
        let verified = Verified { identity: Arc::new(identity()), expires: None };
        let now = Instant::now();
        let settings = Arc::clone(&self.settings);
        let mut session =
            Session::new("s1".into(), self.dialect(target), settings, Some(verified), moment(now));
        answer_all(&mut session, now);
        session
    }

    /// The messages that fill the session with subscriptions before the measurement: the first subscribe message on
    /// this path with a long list; without one, many messages that differ in one string.
    fn prepared(&self, kind: &MessageKind, size: usize) -> Vec<String> {
        let mut prepared: Vec<String> = Vec::new();
        let on_this_path =
            self.messages.iter().filter(|message| message.method.is_empty() && message.target == kind.target);
        let subscribes =
            |message: &&MessageKind| message.text.contains("\"subscribe\"") || message.text.contains("join_");
        let variants: Vec<_> =
            on_this_path.filter(subscribes).flat_map(|message| variants(&message.text)).collect();
        // Only values that are lists already.
        let lists = variants
            .iter()
            .filter(|(growth, variant)| growth.ends_with("distinct") && variant.example.starts_with('['));
        prepared.extend(lists.take(1).map(|(_, variant)| variant.text(size)));
        if prepared.is_empty() {
            let words =
                variants.iter().filter(|(growth, _)| growth.ends_with("word") && !growth.starts_with("type"));
            for (_, variant) in words.take(3) {
                prepared.extend((0..size / 4).map(|number| variant.text(number)));
            }
        }
        prepared
    }

    /// Measures an HTTP call. The body grows or, without a body, the query.
    fn call(&self, kind: &MessageKind, text: String) {
        let identity = Arc::new(identity());
        let (path, query) = kind
            .target
            .split_once('?')
            .map_or((kind.target.as_str(), None), |(path, query)| (path, Some(query)));
        let (query, body) = if kind.text.is_empty() {
            (Some(query.unwrap_or("symbols=@@").to_owned() + &text), None)
        } else {
            (query.map(str::to_owned), Some(text))
        };
        let vocabulary = self.vocabulary.as_ref().unwrap();
        // No limit on channels per call, so that the limit does not end the call early.
        let settings = Arc::new(Settings { max_subscriptions: usize::MAX, ..(*self.settings).clone() });
        section(&mut || {
            let found = vocabulary.lookup(VocabularyId(1), &kind.method, path, query.as_deref(), |_| None);
            if let Lookup::Found(route) = found
                && let Ok(accepted) = route.accept(scope(&identity), body.clone())
            {
                answer(accepted, &identity, &settings);
            }
        });
    }
}

/// Runs the session of an HTTP call, and renders its response.
fn answer(accepted: AcceptedRequest, identity: &Arc<Identity>, settings: &Arc<Settings>) {
    let (dialect, body) = accepted.into_message();
    let verified = Verified { identity: Arc::clone(identity), expires: None };
    let now = Instant::now();
    let mut session =
        Session::of_one_message("s1".into(), dialect, Arc::clone(settings), verified, moment(now));
    session.handle_input(Input::Received(ClientMessage::Text(body)), moment(now));
    std::hint::black_box(HttpAnswer::of(&answer_all(&mut session, now)));
}

fn identity() -> Identity {
    let rules = || Rules { allow: vec![Pattern::everything()], deny: Vec::new() };
    let permissions = Permissions {
        subscribe: rules(),
        publish: rules(),
        request: rules(),
        stats: StatsAccess::All,
        admin: false,
        control: false,
    };
    Identity {
        user: "alice".into(),
        permissions: Arc::new(permissions),
        claims: Some(Arc::new(r#"{"accounts":["ACC1","ACC7"]}"#.to_owned())),
        ..Identity::default()
    }
}

fn scope(identity: &Identity) -> SessionScope<'_> {
    SessionScope {
        session: "s1",
        node: "n1",
        identity: Some(identity),
        now: SystemTime::UNIX_EPOCH,
        ..SessionScope::default()
    }
}

/// Handles a message, and answers everything that the session requests.
fn receive(session: &mut Session, text: String) {
    let now = Instant::now();
    session.handle_input(Input::Received(ClientMessage::Text(text)), moment(now));
    answer_all(session, now);
}

fn answer_all(session: &mut Session, now: Instant) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(output) = session.poll_output() {
        let input = match output {
            Output::Join { subscription, .. } => {
                Input::Joined { subscription, snapshot: Vec::new(), stale: None, position: None }
            }
            Output::Authenticate { .. } | Output::TrustIdentity { .. } => {
                Input::Authenticated(Ok(Verified { identity: Arc::new(identity()), expires: None }))
            }
            Output::Publish { request, .. } => Input::Published { request, result: Ok(()) },
            Output::Request { request, .. } => {
                Input::Replied { request, result: Ok(Payload::classify(r#"{"a":1}"#.into())) }
            }
            Output::Query { request, query } => {
                let found = match query {
                    Query::LastValues { channels } => {
                        let mut list = JsonList::default();
                        channels.iter().for_each(|_| list.push(r#"{"a":1}"#));
                        QueryResult::LastValues(list)
                    }
                    Query::Statistics { .. } => QueryResult::Statistics("{}".into()),
                };
                Input::Queried { request, result: Ok(found) }
            }
            Output::Send { frame, .. } => {
                frames.push(frame);
                continue;
            }
            Output::Deliver { .. }
            | Output::DeliverSnapshot { .. }
            | Output::Ping
            | Output::Denied(_)
            | Output::Refused(_)
            | Output::Filter { .. }
            | Output::GoLive { .. }
            | Output::Release { .. }
            | Output::Leave { .. }
            | Output::Recover { .. }
            | Output::Close { .. } => continue,
        };
        session.handle_input(input, moment(now));
    }
    frames
}

/// The target without its token, which in transcripts is only the name of a token.
fn plain(target: &str) -> &str {
    target.split_once("?token=").map_or(target, |(path, _)| path)
}

/// A message with one part that grows.
pub(crate) struct Variant {
    before: String,
    after: String,
    part: fn(&str, usize) -> String,
    example: String,
}

impl Variant {
    fn text(&self, size: usize) -> String {
        format!("{}{}{}", self.before, (self.part)(&self.example, size), self.after)
    }
}

/// Every way to make a message longer: each of its values becomes a list, nested lists or objects, a long string, and
/// so on.
fn variants(text: &str) -> Vec<(String, Variant)> {
    let whole = |growth: &str, part| {
        let variant = Variant { before: String::new(), after: text.to_owned(), part, example: String::new() };
        (growth.to_owned(), variant)
    };
    if text.is_empty() {
        return vec![whole("query", |_, size| (0..size).map(|n| format!(",S{n}")).collect())];
    }
    let mut variants = vec![whole("blanks", |_, size| " ".repeat(8 * size))];
    let Ok(value) = serde_json::from_str::<Value>(text) else { return variants };
    let mut places = Vec::new();
    collect(&value, &mut Vec::new(), &mut places);
    for (place, example) in places {
        let mut with_placeholder = value.clone();
        *at(&mut with_placeholder, &place) = Value::String("@@".to_owned());
        let with_placeholder = with_placeholder.to_string();
        let Some((before, after)) = with_placeholder.split_once(PLACEHOLDER) else { continue };
        let name = place.join(".");
        for (growth, part) in parts(&example) {
            let example = example.to_string();
            let variant = Variant { before: before.to_owned(), after: after.to_owned(), part, example };
            variants.push((format!("{name} {growth}"), variant));
        }
    }
    variants
}

type Part = fn(&str, usize) -> String;

/// The long values that can replace a value.
fn parts(example: &Value) -> Vec<(&'static str, Part)> {
    let mut parts: Vec<(&'static str, Part)> = vec![
        ("distinct", |example, size| list(size, |number| distinct(example, number))),
        ("repeated", |example, size| list(size, |_| distinct(example, 1))),
        ("sevens", |_, size| list(size, |_| "7".to_owned())),
        ("lists in lists", |_, size| "[".repeat(size) + &"]".repeat(size)),
        ("objects in objects", |_, size| "{\"a\":".repeat(size) + "1" + &"}".repeat(size)),
        ("members", |_, size| object(size)),
        ("long", |_, size| format!("\"{}\"", "x".repeat(8 * size))),
        ("escapes", |_, size| format!("\"{}\"", "\\\"".repeat(4 * size))),
    ];
    if example.is_string() {
        parts.push(("word", |example, number| distinct(example, number)));
        parts.push(("words", |example, size| {
            let word = example.trim_matches('"');
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

/// A string like the example, or like its first element, with a different text for each number.
fn distinct(example: &str, number: usize) -> String {
    let example =
        example.strip_prefix('[').map_or(example, |list| list.split([',', ']']).next().unwrap_or_default());
    match example.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
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
