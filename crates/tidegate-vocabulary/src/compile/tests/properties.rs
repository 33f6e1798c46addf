//! Random edits of the shipped files: the result compiles or has diagnostics, and if it compiles it accepts any message.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::sample::select;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::binding::Binding;
use crate::model::PathRule;
use crate::model::Segment;
use crate::tests::shipped_files;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::headers::PublicationHeaders;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::message::SubscribeRequest;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::subject::Pattern;

/// The text of each shipped vocabulary.
fn shipped() -> Vec<String> {
    shipped_files().into_iter().map(|(_, text)| text).collect()
}

/// An edit of a file. The lines and words are random.
#[derive(Clone, Debug)]
enum Edit {
    Delete(Index),
    Swap(Index, Index),
    Copy(Index, Index),
    Replace { at: Index, word: Index, by: Option<&'static str>, from: Index },
}

/// Words that an edit writes in place of another.
const WORDS: [&str; 25] = [
    "{msg}",
    "{msg.x|upper}",
    "{item}",
    "{joined}",
    "{sub.id}",
    "{data}",
    "{var.x}",
    "{",
    "}",
    "\"",
    "é",
    "true",
    "false",
    "[]",
    "{}",
    "0",
    "-1",
    "99999999999999999999",
    "*",
    ">",
    "_INBOX.x",
    "",
    "when",
    "{ a = { b = { c = [1, \"x\"] } } }",
    "subscribe",
];

fn edits() -> impl Strategy<Value = Edit> {
    let replace = (any::<Index>(), any::<Index>(), proptest::option::of(select(&WORDS[..])), any::<Index>());
    prop_oneof![
        any::<Index>().prop_map(Edit::Delete),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Edit::Swap(one, other)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Copy(from, to)),
        replace.prop_map(|(at, word, by, from)| Edit::Replace { at, word, by, from }),
    ]
}

/// The byte ranges of the words of a line.
fn words(line: &str) -> Vec<(usize, usize)> {
    let is_letter = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let begins = line.char_indices().filter(|(at, c)| is_letter(*c) && !line[..*at].ends_with(is_letter));
    let end = |at: usize| line[at..].find(|c| !is_letter(c)).map_or(line.len(), |length| at + length);
    begins.map(|(at, _)| (at, end(at))).collect()
}

fn edited(file: &str, edits: &[Edit]) -> String {
    let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
    for edit in edits {
        match edit {
            Edit::Delete(at) => drop(lines.remove(at.index(lines.len()))),
            Edit::Swap(one, other) => {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
            }
            Edit::Copy(from, to) => {
                let (line, to) = (lines[from.index(lines.len())].clone(), to.index(lines.len()));
                lines.insert(to, line);
            }
            Edit::Replace { at, word, by, from } => {
                let source = lines[from.index(lines.len())].clone();
                let line = at.index(lines.len());
                let found = words(&lines[line]);
                if found.is_empty() {
                    continue;
                }
                let (begin, end) = found[word.index(found.len())];
                let others = words(&source);
                let other = others.first().map_or("", |(begin, end)| &source[*begin..*end]);
                lines[line].replace_range(begin..end, by.unwrap_or(other));
            }
        }
    }
    lines.join("\n")
}

/// Values that clients send.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        select(vec!["AAPL", "prices", "a.b", "*", ">", "", "2.0", "u1", "$JS"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((".{0,6}", inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A message that rules of the vocabulary may match: with literals of their `when`, and random values.
fn message(vocabulary: &CompiledVocabulary, chosen: &[(Index, Index, Value)]) -> Value {
    let mut message = json!({});
    for (rule, literal, value) in chosen {
        let when = if vocabulary.rules.is_empty() {
            &[][..]
        } else {
            &vocabulary.rules[rule.index(vocabulary.rules.len())].when
        };
        for test in when {
            let value = match &test.matcher {
                Matcher::OneOf(literals) => match &literals[literal.index(literals.len())] {
                    Literal::Text(text) => json!(**text),
                    Literal::Integer(number) => json!(number),
                    Literal::Boolean(truth) => json!(truth),
                    Literal::EmptyList => json!([]),
                },
                Matcher::Present | Matcher::Absent => value.clone(),
            };
            let mut place = &mut message;
            for step in &test.path {
                if !place.is_object() {
                    *place = json!({});
                }
                place = &mut place[step.name()];
            }
            *place = value;
        }
        for name in ["symbols", "events", "types", "token", "id", "room", "channel"] {
            if message.get(name).is_none() {
                message[name] = value.clone();
            }
        }
    }
    message
}

/// The binding of a client that connects to this path.
fn binding(vocabulary: &Arc<CompiledVocabulary>, path: &PathRule) -> Option<Binding> {
    let segments = path.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        Segment::Parameter(_) => "/AAPL".to_owned(),
    });
    vocabulary.bind(VocabularyId(1), &segments.collect::<String>(), Some("symbols=a,b"), |_| None).ok()
}

/// Decodes a message and answers it, with and without an identity.
fn decode_and_answer(vocabulary: &Binding, event: &ClientMessage) {
    let identity = Identity {
        user: "u1".into(),
        claims: Some(Arc::new("{\"accounts\":[\"A1\"]}".to_owned())),
        ..Identity::default()
    };
    for identity in [None, Some(&identity)] {
        let scope = SessionScope { identity, ..SessionScope::default() };
        vocabulary.credential(event);
        vocabulary.permits(scope);
        let heard = vocabulary.decode(scope, event);
        for heard in vocabulary.on_connect(scope).into_iter().chain([heard]) {
            let reply = match heard {
                Ok(Command::Request { request_context, .. }) => {
                    Reply::Replied { request_context, data: Payload::classify("{\"a\":1}".into()) }
                }
                Ok(Command::Acknowledge { request_context } | Command::Publish { request_context, .. }) => {
                    Reply::Acknowledged { request_context }
                }
                Ok(Command::Subscribe { request_context, wanted }) => {
                    render(vocabulary, scope, &wanted);
                    Reply::Acknowledged { request_context }
                }
                Ok(_) => continue,
                Err(undecodable) => {
                    let Some(RequestContext::Message(_)) = &undecodable.request_context else { continue };
                    Reply::Error {
                        request_context: undecodable.request_context,
                        channel: None,
                        error: undecodable.error,
                    }
                }
            };
            if let Some(frame) = vocabulary.reply(scope, &reply) {
                assert!(serde_json::from_slice::<Value>(frame.message()).is_ok(), "{frame:?}");
            }
        }
    }
}

/// Renders publications on the channels of a subscription, and checks that the frames are JSON.
fn render(vocabulary: &Binding, scope: SessionScope<'_>, wanted: &SubscribeRequest) {
    let renderers = Renderers::new([Arc::clone(&vocabulary.vocabulary) as _]);
    for pattern in wanted.channels.iter().flatten().filter_map(|channel| Pattern::parse(channel).ok()) {
        let format = Format { encoding: Encoding::JSON, ..vocabulary.format(&pattern) };
        let subscription_context = vocabulary.subscription_context(scope, &pattern, format.route, wanted);
        let subject: Arc<str> = pattern.as_str().replace(['*', '>'], "x").into();
        for payload in ["{\"type\":\"a\",\"price\":185.50}", "[1]", "plain"] {
            let publication = Publication {
                key: Arc::clone(&subject),
                subject: Arc::clone(&subject),
                payload: Payload::classify(payload.into()),
                headers: PublicationHeaders::default(),
                time: std::time::SystemTime::UNIX_EPOCH,
                seq: 0,
            };
            let shown =
                renderers.publication(format, pattern.as_str(), &publication, &mut Scratch::default());
            let Rendered::Frame(frame) = shown else { continue };
            let own = subscription_context.as_ref().map_or_else(
                || Some(frame.clone()),
                |subscription_context| subscription_context.tailor(&frame),
            );
            assert!(serde_json::from_slice::<Value>(own.unwrap().message()).is_ok());
        }
    }
}

proptest! {
    #[test]
    fn an_edited_file_compiles_or_has_diagnostics_and_accepts_any_message(
        file in select(shipped()),
        edits in vec(edits(), 0..4),
        chosen in vec((any::<Index>(), any::<Index>(), values()), 0..4),
        free in values(),
        bytes in ".{0,40}",
    ) {
        let file = edited(&file, &edits);
        match compile(&file) {
            Err(mistakes) => {
                prop_assert!(!mistakes.is_empty());
                for Diagnostic { key, message, help, .. } in mistakes {
                    prop_assert!(!message.is_empty() && !help.is_empty() && !key.contains('\n'), "{key} {message}");
                }
            }
            Ok(compiled) => {
                let vocabulary = Arc::new(compiled.vocabulary);
                let likely = message(&vocabulary, &chosen);
                for vocabulary in vocabulary.paths.iter().filter_map(|path| binding(&vocabulary, path)) {
                    for text in [likely.to_string(), free.to_string(), bytes.clone()] {
                        decode_and_answer(&vocabulary, &ClientMessage::Text(text));
                    }
                    decode_and_answer(&vocabulary, &ClientMessage::Binary(bytes.clone().into()));
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in "(\\[\\[(path|receive|deliver)\\]\\]|[a-z\"={}\\[\\]., \n{é]|name|path|when|send|do){0,60}") {
        compile(&text).map(drop).ok();
    }
}
