//! Each shipped vocabulary writes JSON with exactly the members that its file describes, whatever it receives.

mod dotted;
#[path = "../../../tests/vocabularies/hostile.rs"]
pub(crate) mod hostile;
mod session;
#[path = "../../../tests/vocabularies/shipped.rs"]
mod shipped;

use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value as Json;
use toml::Value as Toml;

use tidegate_protocol::frame::VocabularyId;

use super::*;
use crate::compile::compile;
use crate::http::Lookup;
use crate::http::answer::HttpAnswer;
use crate::model::CompiledVocabulary;
use crate::route::DeliverIndex;
use crate::route::Route;
use std::time::Duration;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::json;
use tidegate_protocol::message::Connected;
use tidegate_protocol::message::LastValue;
use tidegate_protocol::message::OriginalMessage;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::message::SubscribeRequest;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::payload::is_json;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::subject::Pattern;

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The name and the text of each shipped vocabulary.
pub(crate) fn shipped_files() -> Vec<(String, String)> {
    shipped::shipped(&root())
}

/// A shipped vocabulary, as TOML and compiled.
struct Shipped {
    file: Toml,
    vocabulary: Arc<CompiledVocabulary>,
    bindings: Vec<Binding>,
}

/// Text and bytes from clients, services and publishers, for one case.
#[derive(Clone, Debug)]
struct ForeignInput {
    user: String,
    token: String,
    message: String,
    text: String,
    id: String,
    payload: Bytes,
}

fn shipped() -> Vec<Shipped> {
    let read = |(_, text): (String, String)| {
        let vocabulary = Arc::new(compile(&text).unwrap().vocabulary);
        let file = without_off(Toml::Table(text.parse().unwrap()));
        let bindings = vocabulary.paths.iter().map(|path| {
            // A label may be any text, a parameter in a subject only a token.
            let hostile = vocabulary.bind(
                VocabularyId(1),
                &path_with(&path.template, "%22%5C%E2%80%A8%7Bdata%7D"),
                None,
                |_| None,
            );
            let binding = hostile.or_else(|_| {
                vocabulary.bind(VocabularyId(1), &path_with(&path.template, "AAPL"), None, |_| None)
            });
            binding.unwrap()
        });
        Shipped { bindings: bindings.collect(), vocabulary, file }
    };
    shipped_files().into_iter().map(read).collect()
}

/// A file without the rules that need a switch.
fn without_off(mut file: Toml) -> Toml {
    for (name, value) in file.as_table_mut().into_iter().flatten() {
        let Some(list) = value.as_array_mut() else { continue };
        match name.as_str() {
            "receive" | "deliver" | "http" | "on_connect" => list.retain(|rule| rule.get("if").is_none()),
            "path" => list.iter_mut().for_each(|path| *path = without_off(path.clone())),
            _ => {}
        }
    }
    file
}

/// Whether a template spreads a value somewhere, which must then be an object.
fn spreads(template: &Toml) -> bool {
    match template {
        Toml::Table(members) => members.contains_key("...") || members.values().any(spreads),
        Toml::Array(elements) => elements.iter().any(spreads),
        Toml::String(_) | Toml::Integer(_) | Toml::Float(_) | Toml::Boolean(_) | Toml::Datetime(_) => false,
    }
}

fn path_with(template: &str, value: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { value } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn tables<'t>(section: &'t Toml, name: &str) -> &'t [Toml] {
    section.get(name).and_then(Toml::as_array).map_or(&[][..], Vec::as_slice)
}

/// Checks that `written` has the members, elements and literal text of `template`. Where the template spreads, it may also
/// have members of `spread`.
fn check_shape(template: &Toml, written: &Json, spread: &Json) {
    match (template, written) {
        (Toml::String(text), _) if text.starts_with('{') && text.find('}') == Some(text.len() - 1) => {}
        (Toml::String(text), Json::String(written)) => {
            let plain = text.split(['{', '}']).step_by(2);
            let mut rest = written.as_str();
            for plain in plain {
                let at = rest.find(plain);
                assert!(at.is_some(), "{written} has no {plain}");
                rest = &rest[at.unwrap() + plain.len()..];
            }
        }
        (Toml::Integer(number), _) => assert_eq!(written, &Json::from(*number)),
        (Toml::Boolean(truth), _) => assert_eq!(written, &Json::from(*truth)),
        (Toml::Array(templates), Json::Array(elements)) => {
            assert_eq!(templates.len(), elements.len());
            for (template, element) in templates.iter().zip(elements) {
                check_shape(template, element, spread);
            }
        }
        (Toml::Table(templates), Json::Object(members)) => {
            let is_optional =
                |template: &Toml| template.as_str().is_some_and(|text| text.contains("|optional"));
            for (key, template) in templates.iter().filter(|(key, _)| *key != "...") {
                match members.get(key) {
                    Some(member) => check_shape(template, member, spread),
                    None => assert!(is_optional(template), "{key} is not there: {written}"),
                }
            }
            for key in members.keys().filter(|key| !templates.contains_key(*key)) {
                let is_spread = templates.contains_key("...") && spread.get(key).is_some();
                assert!(is_spread, "{key} is not described: {written}");
            }
        }
        _ => panic!("{template:?} became {written}"),
    }
}

/// Checks that there is a frame exactly if there is a template, that it matches the template, and that no member of it is a
/// duplicate.
fn check(template: Option<&Toml>, frame: Option<Frame>, spread: &Json) {
    assert_eq!(template.is_some(), frame.is_some(), "{:?}", template);
    let (Some(template), Some(frame)) = (template, frame) else { return };
    let text = String::from_utf8_lossy(frame.message()).into_owned();
    let written: Result<Json, _> = serde_json::from_str(&text);
    assert!(written.is_ok(), "{}", text);
    if let Some(members) = json::members(&text) {
        let names: std::collections::BTreeSet<_> = members.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), members.len(), "{}", text);
    }
    check_shape(template, &written.unwrap(), spread);
}

fn original(rule: Option<RuleId>, input: &ForeignInput) -> Option<RequestContext> {
    Some(RequestContext::Message(Rc::new(OriginalMessage {
        rule,
        text: input.message.as_str().into(),
        ..OriginalMessage::default()
    })))
}

impl Shipped {
    /// Publications for the pattern of each `[[deliver]]`.
    fn publications(&self, scope: SessionScope<'_>, input: &ForeignInput) {
        let binding = &self.bindings[0];
        for (at, rule) in tables(&self.file, "deliver").iter().enumerate() {
            let pattern = Pattern::parse(rule["pattern"].as_str().unwrap()).unwrap();
            let route = Route::Deliver(DeliverIndex(u16::try_from(at).unwrap()));
            let kept = [("id".into(), input.id.as_str().into())].into();
            let subscription_context = binding.subscription_context(
                scope,
                &pattern,
                route.into(),
                &SubscribeRequest { kept, ..SubscribeRequest::default() },
            );
            let subject: Arc<str> = pattern.as_str().replace('*', &input.token).into();
            let payload = Payload::classify(input.payload.clone());
            let spread = serde_json::from_slice(&input.payload).unwrap_or_default();
            let headers = [("Name", &input.text)].into_iter().collect();
            let time = std::time::SystemTime::UNIX_EPOCH;
            let publication =
                Publication { key: Arc::clone(&subject), subject, payload, headers, time, seq: 0 };
            let template = &rule["send"];
            match self.vocabulary.render(route, &publication, &mut Scratch::default()) {
                Rendered::Frame(frame) => {
                    let own = subscription_context.map_or_else(
                        || Some(frame.clone()),
                        |subscription_context| subscription_context.tailor(&frame),
                    );
                    check(Some(template), own, &spread);
                }
                Rendered::Elements { list, .. } => {
                    for element in &list {
                        assert!(element.json().is_none_or(is_json), "{element:?}");
                        let frame = element.frame().map(|frame| frame.fill_slots(|_| None));
                        assert!(frame.is_none_or(|frame| is_json(&String::from_utf8_lossy(frame.message()))));
                    }
                }
                Rendered::Nothing => assert!(rule.get("when").is_some(), "{pattern} is not shown"),
                Rendered::Unrenderable | Rendered::TooManyElements => {
                    let is_binary = matches!(publication.payload, Payload::Binary(_));
                    let has_no_value = rule.get("each").is_some();
                    let is_spread = spreads(template) && !spread.is_object();
                    assert!(is_binary || is_spread || has_no_value, "{:?}", publication);
                }
            }
        }
    }

    /// Messages about channels: `gap`, `stale` and `unsubscribed`.
    fn channels(&self, scope: SessionScope<'_>, input: &ForeignInput) {
        let channel: Arc<str> = input.text.as_str().into();
        let error = ClientError::new(ErrorCode::Forbidden, input.text.as_str());
        let (since, dropped) = (std::time::SystemTime::UNIX_EPOCH, Some(7));
        let pushes = [
            ("gap", Push::Gap { channel: Arc::clone(&channel), cause: GapCause::Slow, dropped, range: None }),
            ("stale", Push::Stale { channel: Arc::clone(&channel), since }),
            ("unsubscribed", Push::Unsubscribed { channel, error }),
        ];
        let kept = [("id".into(), input.id.as_str().into())].into();
        let wanted = SubscribeRequest { kept, ..SubscribeRequest::default() };
        for binding in &self.bindings {
            let pattern = Pattern::parse("prices.x").unwrap();
            let subscription_context =
                binding.subscription_context(scope, &pattern, binding.format(&pattern).route, &wanted);
            for (section, push) in &pushes {
                let template = self.file.get(section).map(|section| &section["send"]);
                check(template, binding.channel_push(push, subscription_context.as_ref()), &Json::Null);
                check(template, binding.channel_push(push, None), &Json::Null);
            }
        }
    }

    /// Answers to messages, and messages about the session.
    fn answers(&self, scope: SessionScope<'_>, input: &ForeignInput) {
        let on_connect: usize =
            tables(&self.file, "path").iter().map(|path| tables(path, "on_connect").len()).sum();
        let error = self.file.get("error").map(|error| &error["send"]);
        let refused = |request_context| {
            let error = ClientError::new(ErrorCode::Service, input.text.as_str());
            Reply::Error { request_context, channel: Some(input.text.clone()), error }
        };
        for (binding, path) in self.bindings.iter().zip(tables(&self.file, "path")) {
            for (at, rule) in tables(&self.file, "receive").iter().enumerate() {
                let request_context = || original(u16::try_from(on_connect + at).ok().map(RuleId), input);
                let answer = rule.get("send").or_else(|| rule.get("confirm"));
                let refuse = rule.get("refuse").or(error);
                // A reply that is not an object cannot be spread.
                let spread: Json = serde_json::from_slice(&input.payload).unwrap_or_default();
                let is_spread = answer.is_some_and(spreads);
                let replied = if is_spread && !spread.is_object() { refuse } else { answer };
                let data = Payload::classify(input.payload.clone());
                let reply = Reply::Replied { request_context: request_context(), data };
                check(replied, binding.reply(scope, &reply), &spread);
                let acknowledged = Reply::Acknowledged { request_context: request_context() };
                let wanted = if is_spread { refuse } else { answer };
                check(wanted, binding.reply(scope, &acknowledged), &Json::Null);
                check(refuse, binding.reply(scope, &refused(request_context())), &Json::Null);
            }
            check(error, binding.reply(scope, &refused(original(None, input))), &Json::Null);
            check(error, binding.reply(scope, &refused(None)), &Json::Null);
            let common = self.file.get("greeting").map(|greeting| &greeting["send"]);
            let connected = Reply::Connected(connected(input));
            check(path.get("greeting").or(common), binding.reply(scope, &connected), &Json::Null);
            let ping = self.file.get("heartbeat").and_then(|heartbeat| heartbeat.get("ping"));
            check(ping, binding.push(scope, &Push::Ping), &Json::Null);
            let close = self.file.get("close").and_then(|close| close.get("send"));
            let push = Push::Close { disconnect: Disconnect::TooManyErrors, retry_after: None };
            check(close, binding.push(scope, &push), &Json::Null);
        }
    }

    /// Answers to HTTP calls.
    fn calls(&self, scope: SessionScope<'_>, input: &ForeignInput) {
        for (at, rule) in tables(&self.file, "http").iter().enumerate() {
            let (method, path) = (rule["method"].as_str().unwrap(), rule["path"].as_str().unwrap());
            let parts = path.split('/').map(|part| if part.starts_with('{') { "users" } else { part });
            let path = parts.collect::<Vec<_>>().join("/");
            let found = self
                .vocabulary
                .lookup(VocabularyId(1), method, &path, Some(&input.text), |_| Some(input.text.as_bytes()));
            let dialect = match found {
                Lookup::Found(route) => route.into_dialect(),
                Lookup::BadParameter(_) => continue,
                Lookup::Unmatched | Lookup::OtherMethod(_) | Lookup::BadValue | Lookup::Nothing => {
                    assert!(rule.get("when").is_some(), "{method} {path}");
                    continue;
                }
            };
            // Another rule of this path, whose `when` holds.
            if usize::from(dialect.index().0) != at {
                continue;
            }
            let payload = Payload::classify(input.payload.clone());
            let json = Json::from(input.text.as_str()).to_string().into();
            let request_context = original(None, input);
            let time = std::time::SystemTime::UNIX_EPOCH;
            let value = LastValue { subject: "a.b".into(), payload: payload.clone(), time };
            let replies = [
                Reply::Published { request_context: request_context.clone() },
                Reply::Replied { request_context: request_context.clone(), data: payload.clone() },
                Reply::LastValues {
                    request_context: request_context.clone(),
                    values: self.vocabulary.last_values_json(&[], &[value.clone(), value]),
                },
                Reply::Statistics { request_context, json },
            ];
            for reply in replies {
                let frame = dialect.reply(scope, &reply).unwrap();
                let has_body = matches!(HttpAnswer::of(std::slice::from_ref(&frame)), HttpAnswer::Json(..));
                // A value that has no text cannot be shown, nor one that must be an object and is none.
                let may_lack = |send: &Toml| spreads(send) || format!("{send:?}").contains("{data");
                if !has_body && rule.get("send").is_some_and(may_lack) {
                    continue;
                }
                let spread: Json = serde_json::from_slice(&input.payload).unwrap_or_default();
                check(rule.get("send"), has_body.then_some(frame), &spread);
            }
        }
    }
}

fn connected(input: &ForeignInput) -> Connected {
    Connected {
        session: "s1".into(),
        user: input.user.as_str().into(),
        node: "n1".into(),
        ping_interval: Duration::from_secs(30),
        expires_in: None,
        max_message: 1,
        max_subscriptions: 1,
    }
}

/// Text with characters that are special in JSON, in JavaScript or in templates.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "\"",
        "\\",
        "\\u0000",
        "\0",
        "\u{1}",
        "\u{7f}",
        "\u{2028}",
        "\u{2029}",
        "\r\n",
        "\"}",
        "\",\"type\":\"x",
        "{data}",
        "{{",
        "</script>",
        "é",
        "\u{ff0a}",
    ];
    let piece = prop_oneof![prop::sample::select(pieces.to_vec()).prop_map(String::from), ".{0,4}"];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// JSON values of up to three levels, with hostile text in them.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        hostile().prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let names = prop_oneof![
            prop::sample::select(vec!["id", "type", "payload", "params", "symbol", "data"])
                .prop_map(String::from),
            hostile(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(names, inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// JSON as text, some of it with white space and unusual escapes.
fn any_text_of_json() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any_json().prop_map(|json| json.to_string()),
        1 => any_json().prop_map(|json| format!(" {}\n", json.to_string().replace('y', "\\u0079"))),
    ]
}

fn foreign_input() -> impl Strategy<Value = ForeignInput> {
    let payload = prop_oneof![
        4 => any_text_of_json().prop_map(Bytes::from),
        2 => hostile().prop_map(Bytes::from),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from),
    ];
    (hostile(), "[^\\s.*>\0]{1,6}", any_text_of_json(), hostile(), any_text_of_json(), payload).prop_map(
        |(user, token, message, text, id, payload)| ForeignInput { user, token, message, text, id, payload },
    )
}

#[test]
fn a_gap_without_a_subscription_has_null_for_what_is_kept() {
    let graphql = SHIPPED.iter().find(|shipped| &*shipped.vocabulary.name == "graphql-ws").unwrap();
    let gap = Push::Gap { channel: "prices.x".into(), cause: GapCause::Slow, dropped: None, range: None };
    let frame = graphql.bindings[0].channel_push(&gap, None).unwrap();
    let message: Json = serde_json::from_slice(frame.message()).unwrap();
    assert_eq!(message["id"], Json::Null);
}

#[test]
fn a_blank_body_of_a_call_is_null() {
    let file = r#"
        name = "echo"
        [[path]]
        name = "a"
        path = "/a"
        [[http]]
        method = "POST"
        path = "/said"
        do = "send"
        send = { said = "{msg}" }
    "#;
    let vocabulary = Arc::new(compile(file).unwrap().vocabulary);
    let Lookup::Found(route) = vocabulary.lookup(VocabularyId(1), "POST", "/said", None, |_| None) else {
        panic!()
    };
    let accepted = route.accept(SessionScope::default(), Some(" \n".to_owned())).unwrap();
    let (dialect, body) = accepted.into_message();
    let command = dialect.decode(SessionScope::default(), &ClientMessage::Text(body)).unwrap();
    let said = Reply::Acknowledged { request_context: command.request_context().cloned() };
    let answer = HttpAnswer::of(&[dialect.reply(SessionScope::default(), &said).unwrap()]);
    assert_eq!(answer, HttpAnswer::Json(200, r#"{"said":null}"#.into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn voc_02_every_frame_has_exactly_the_members_that_its_file_describes(input in foreign_input()) {
        let identity = Identity { user: input.user.as_str().into(), ..Identity::default() };
        let scope = SessionScope { session: "s1", node: &input.text, identity: Some(&identity), ..SessionScope::default() };
        for shipped in SHIPPED.iter() {
            shipped.publications(scope, &input);
            shipped.channels(scope, &input);
            shipped.answers(scope, &input);
            shipped.calls(scope, &input);
        }
    }
}

static SHIPPED: LazyLock<Vec<Shipped>> = LazyLock::new(shipped);
