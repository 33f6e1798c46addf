//! Every shipped vocabulary writes valid JSON that matches its templates, whatever clients and producers send.

mod session;

use std::rc::Rc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value as Json;
use toml::Value as Toml;

use super::*;
use crate::compile::compile;
use crate::http::Lookup;
use crate::http::answer::HttpAnswer;
use crate::model::DeliverIndex;
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
use tidegate_protocol::identity::Identity;
use tidegate_protocol::json;
use tidegate_protocol::message::Connected;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::message::OriginalMessage;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::message::SubscribeRequest;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;

/// A shipped vocabulary, and its parsed file.
struct Shipped {
    file: Toml,
    described: Arc<CompiledVocabulary>,
    ways: Vec<Binding>,
}

/// What clients, producers and services send in one case.
#[derive(Clone, Debug)]
struct Said {
    user: String,
    token: String,
    message: String,
    words: String,
    id: String,
    payload: Bytes,
}

fn shipped() -> Vec<Shipped> {
    let names = ["ara", "financegpt", "financegpt-mcp", "graphql-ws", "hoardrun", "sentio", "stock-agent"];
    let read = |name| {
        let path = format!("{}/../../vocabularies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let described = Arc::new(compile(&text).unwrap().described);
        let file = Toml::Table(text.parse().unwrap());
        let ways = described.paths.iter().map(|path| {
            // A label may be any text, a parameter in a subject only a token.
            let hostile = described.bind(
                VocabularyId(1),
                &with(&path.template, "%22%5C%E2%80%A8%7Bdata%7D"),
                None,
                |_| None,
            );
            let binding = hostile
                .or_else(|_| described.bind(VocabularyId(1), &with(&path.template, "AAPL"), None, |_| None));
            binding.unwrap()
        });
        Shipped { ways: ways.collect(), described, file }
    };
    names.map(read).into()
}

fn with(template: &str, value: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { value } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn tables<'t>(section: &'t Toml, name: &str) -> &'t [Toml] {
    section.get(name).and_then(Toml::as_array).map_or(&[][..], Vec::as_slice)
}

/// Checks that `written` matches `template`: the same members, elements and fixed texts. Where the template spreads,
/// members of `spread` are allowed.
fn agree(template: &Toml, written: &Json, spread: &Json) {
    match (template, written) {
        (Toml::String(text), _) if text.starts_with('{') && text.find('}') == Some(text.len() - 1) => {}
        (Toml::String(text), Json::String(said)) => {
            let plain = text.split(['{', '}']).step_by(2);
            let mut rest = said.as_str();
            for plain in plain {
                let at = rest.find(plain);
                assert!(at.is_some(), "{said} has no {plain}");
                rest = &rest[at.unwrap() + plain.len()..];
            }
        }
        (Toml::Integer(number), _) => assert_eq!(written, &Json::from(*number)),
        (Toml::Boolean(truth), _) => assert_eq!(written, &Json::from(*truth)),
        (Toml::Array(templates), Json::Array(elements)) => {
            assert_eq!(templates.len(), elements.len());
            for (template, element) in templates.iter().zip(elements) {
                agree(template, element, spread);
            }
        }
        (Toml::Table(templates), Json::Object(members)) => {
            let is_optional =
                |template: &Toml| template.as_str().is_some_and(|text| text.contains("|optional"));
            for (key, template) in templates.iter().filter(|(key, _)| *key != "...") {
                match members.get(key) {
                    Some(member) => agree(template, member, spread),
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

/// Checks that there is a frame if and only if there is a template, that it matches, and that no member is duplicated.
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
    agree(template, &written.unwrap(), spread);
}

fn question(rule: Option<RuleId>, said: &Said) -> Option<RequestContext> {
    Some(RequestContext::Message(Rc::new(OriginalMessage {
        rule,
        text: said.message.as_str().into(),
        ..OriginalMessage::default()
    })))
}

impl Shipped {
    /// Checks publications for every rule.
    fn publications(&self, scope: SessionScope<'_>, said: &Said) {
        let way = &self.ways[0];
        for (at, rule) in tables(&self.file, "deliver").iter().enumerate() {
            let pattern = Pattern::parse(rule["pattern"].as_str().unwrap()).unwrap();
            let route = Route::Deliver(DeliverIndex(u16::try_from(at).unwrap()));
            let kept = [("id".into(), said.id.as_str().into())].into();
            let subscription_context = way.subscription_context(
                scope,
                &pattern,
                route.into(),
                &SubscribeRequest { kept, ..SubscribeRequest::default() },
            );
            let subject: Arc<str> = pattern.as_str().replace('*', &said.token).into();
            let payload = Payload::classify(said.payload.clone());
            let spread = serde_json::from_slice(&said.payload).unwrap_or_default();
            let headers = vec![("Name".to_owned(), said.words.clone())];
            let time = std::time::SystemTime::UNIX_EPOCH;
            let publication = Publication { key: Arc::clone(&subject), subject, payload, headers, time };
            let template = &rule["send"];
            match self.described.render(route, &publication) {
                Rendered::Frame(frame) => {
                    let own = subscription_context.map_or_else(
                        || Some(frame.clone()),
                        |subscription_context| subscription_context.tailor(&frame),
                    );
                    check(Some(template), own, &spread);
                }
                Rendered::Nothing => assert!(rule.get("when").is_some(), "{pattern} is not shown"),
                Rendered::Unrenderable => {
                    let is_binary = matches!(publication.payload, Payload::Binary(_));
                    let is_spread = template.get("...").is_some() && !spread.is_object();
                    assert!(is_binary || is_spread, "{:?}", publication);
                }
            }
        }
    }

    /// Checks notices about channels.
    fn channels(&self, scope: SessionScope<'_>, said: &Said) {
        let channel: Arc<str> = said.words.as_str().into();
        let refusal = ClientError::new(ErrorCode::Forbidden, said.words.as_str());
        let (since, dropped) = (std::time::SystemTime::UNIX_EPOCH, Some(7));
        let pushes = [
            ("gap", Push::Gap { channel: Arc::clone(&channel), cause: GapCause::Slow, dropped }),
            ("stale", Push::Stale { channel: Arc::clone(&channel), since }),
            ("unsubscribed", Push::Unsubscribed { channel, refusal }),
        ];
        let kept = [("id".into(), said.id.as_str().into())].into();
        let wanted = SubscribeRequest { kept, ..SubscribeRequest::default() };
        for way in &self.ways {
            let pattern = Pattern::parse("prices.x").unwrap();
            let subscription_context =
                way.subscription_context(scope, &pattern, way.format(&pattern).route, &wanted);
            for (section, push) in &pushes {
                let template = self.file.get(section).map(|section| &section["send"]);
                check(template, way.channel_push(push, subscription_context.as_ref()), &Json::Null);
                check(template, way.channel_push(push, None), &Json::Null);
            }
        }
    }

    /// Checks answers to messages, and messages of the server.
    fn answers(&self, scope: SessionScope<'_>, said: &Said) {
        let on_connect: usize =
            tables(&self.file, "path").iter().map(|path| tables(path, "on_connect").len()).sum();
        let error = self.file.get("error").map(|error| &error["send"]);
        let refused = |asked| {
            let refusal = ClientError::new(ErrorCode::Service, said.words.as_str());
            Reply::Error { asked, channel: Some(said.words.clone()), refusal }
        };
        for (way, path) in self.ways.iter().zip(tables(&self.file, "path")) {
            for (at, rule) in tables(&self.file, "receive").iter().enumerate() {
                let asked = || question(u16::try_from(on_connect + at).ok().map(RuleId), said);
                let answer = rule.get("send").or_else(|| rule.get("confirm"));
                let data = Payload::classify(said.payload.clone());
                check(answer, way.reply(scope, &Reply::Replied { asked: asked(), data }), &Json::Null);
                check(answer, way.reply(scope, &Reply::Acknowledged { asked: asked() }), &Json::Null);
                let refuse = rule.get("refuse").or(error);
                check(refuse, way.reply(scope, &refused(asked())), &Json::Null);
            }
            check(error, way.reply(scope, &refused(question(None, said))), &Json::Null);
            check(error, way.reply(scope, &refused(None)), &Json::Null);
            let common = self.file.get("greeting").map(|greeting| &greeting["send"]);
            let connected = Reply::Connected(connected(said));
            check(path.get("greeting").or(common), way.reply(scope, &connected), &Json::Null);
            let ping = self.file.get("heartbeat").and_then(|heartbeat| heartbeat.get("ping"));
            check(ping, way.push(scope, &Push::Ping), &Json::Null);
            let close = self.file.get("close").and_then(|close| close.get("send"));
            let push = Push::Close { disconnect: Disconnect::TooManyErrors, retry_after: None };
            check(close, way.push(scope, &push), &Json::Null);
        }
    }

    /// Checks HTTP responses.
    fn calls(&self, scope: SessionScope<'_>, said: &Said) {
        for rule in tables(&self.file, "http") {
            let (method, path) = (rule["method"].as_str().unwrap(), rule["path"].as_str().unwrap());
            let parts = path.split('/').map(|part| if part.starts_with('{') { "users" } else { part });
            let path = parts.collect::<Vec<_>>().join("/");
            let found = self
                .described
                .lookup(VocabularyId(1), method, &path, Some(&said.words), |_| Some(&said.words));
            let Lookup::Found(route) = found else { panic!("{method} {path}") };
            let payload = Payload::classify(said.payload.clone());
            let json = Json::from(said.words.as_str()).to_string().into();
            let asked = question(None, said);
            let replies = [
                Reply::Published { asked: asked.clone() },
                Reply::Replied { asked: asked.clone(), data: payload.clone() },
                Reply::LastValues { asked: asked.clone(), values: vec![payload.clone(), payload] },
                Reply::Statistics { asked, json },
            ];
            let dialect = route.into_dialect();
            for reply in replies {
                let frame = dialect.reply(scope, &reply).unwrap();
                let has_body = matches!(HttpAnswer::of(std::slice::from_ref(&frame)), HttpAnswer::Json(..));
                check(rule.get("send"), has_body.then_some(frame), &Json::Null);
            }
        }
    }
}

fn connected(said: &Said) -> Connected {
    Connected {
        session: "s1".into(),
        user: said.user.as_str().into(),
        node: "n1".into(),
        ping_interval: Duration::from_secs(30),
        expires_in: None,
        max_message: 1,
        max_subscriptions: 1,
    }
}

/// Text with everything that is special in JSON, in JavaScript or here.
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

/// JSON of some depth, with such text in it.
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

/// The same as text, with some escapes written differently.
fn any_text_of_json() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any_json().prop_map(|json| json.to_string()),
        1 => any_json().prop_map(|json| format!(" {}\n", json.to_string().replace('y', "\\u0079"))),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let payload = prop_oneof![
        4 => any_text_of_json().prop_map(Bytes::from),
        2 => hostile().prop_map(Bytes::from),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from),
    ];
    (hostile(), "[^\\s.*>\0]{1,6}", any_text_of_json(), hostile(), any_text_of_json(), payload).prop_map(
        |(user, token, message, words, id, payload)| Said { user, token, message, words, id, payload },
    )
}

#[test]
fn no_mark_of_a_cut_is_sent_where_nothing_was_agreed() {
    let graphql = SHIPPED.iter().find(|shipped| &*shipped.described.name == "graphql-ws").unwrap();
    let gap = Push::Gap { channel: "prices.x".into(), cause: GapCause::Slow, dropped: None };
    let frame = graphql.ways[0].channel_push(&gap, None).unwrap();
    let message: Json = serde_json::from_slice(frame.message()).unwrap();
    assert_eq!(message["id"], Json::Null);
}

#[test]
fn a_blank_body_is_no_value_in_the_answer_to_a_call() {
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
    let described = Arc::new(compile(file).unwrap().described);
    let Lookup::Found(route) = described.lookup(VocabularyId(1), "POST", "/said", None, |_| None) else {
        panic!()
    };
    let accepted = route.accept(SessionScope::default(), Some(" \n".to_owned())).unwrap();
    let (dialect, body) = accepted.into_message();
    let command = dialect.decode(SessionScope::default(), &ClientMessage::Text(body)).unwrap();
    let said = Reply::Acknowledged { asked: command.asked().cloned() };
    let answer = HttpAnswer::of(&[dialect.reply(SessionScope::default(), &said).unwrap()]);
    assert_eq!(answer, HttpAnswer::Json(200, r#"{"said":null}"#.to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn voc_02_every_frame_has_exactly_the_members_that_its_file_describes(said in said()) {
        let identity = Identity { user: said.user.as_str().into(), ..Identity::default() };
        let scope = SessionScope { session: "s1", node: &said.words, identity: Some(&identity), ..SessionScope::default() };
        for shipped in SHIPPED.iter() {
            shipped.publications(scope, &said);
            shipped.channels(scope, &said);
            shipped.answers(scope, &said);
            shipped.calls(scope, &said);
        }
    }
}

static SHIPPED: std::sync::LazyLock<Vec<Shipped>> = std::sync::LazyLock::new(shipped);
