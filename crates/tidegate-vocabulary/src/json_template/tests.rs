//! Rendered messages, which are valid JSON whatever their placeholders hold.

use crate::time_format::TimeFormat;
use proptest::prelude::*;
use serde_json::Value as Json;
use tidegate_protocol::scratch::Scratch;

use super::*;
use crate::placeholder::Source;
use crate::placeholder::SourceValue;
use crate::tests::shipped_files;

/// Values for `{user}`, `{msg}` and `{data}` only.
#[derive(Default)]
struct Values {
    user: Option<String>,
    msg: Option<String>,
    data: Option<String>,
}

impl Resolve for Values {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        let json =
            |json: &Option<String>| json.clone().map(|json| SourceValue::Value(Value::Json(json.into())));
        if *source == Source::User {
            return self.user.as_deref().map(|user| SourceValue::Value(Value::Text(user.into())));
        }
        let json_of = [(Source::Message, &self.msg), (Source::Data, &self.data)];
        json_of.into_iter().find(|(of, _)| of == source).and_then(|(_, text)| json(text))
    }
}

/// A template from JSON, as a file would have it.
fn tree(json: &Json) -> Tree {
    match json {
        Json::String(text) => Tree::Text(text.clone()),
        Json::Array(list) => Tree::List(list.iter().map(tree).collect()),
        Json::Object(table) => {
            Tree::Table(table.iter().map(|(key, value)| (key.clone(), tree(value))).collect())
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => Tree::Plain(json.to_string()),
    }
}

fn compiled(json: &str) -> Result<JsonTemplate, JsonTemplateError> {
    let json: Json = serde_json::from_str(json).map_err(|_| JsonTemplateError::Spread)?;
    JsonTemplate::compile(&tree(&json), TimeFormat::default())
}

/// The rendered message, or an error.
fn rendered(json_template: &str, values: &Values, on_missing: OnMissing) -> String {
    let json_template = compiled(json_template).unwrap();
    let mut out = b"before".to_vec();
    match json_template.render(values, on_missing, &mut out) {
        Ok(()) => String::from_utf8(out.split_off(6)).unwrap(),
        Err(unfilled) => {
            assert_eq!(out, b"before", "nothing is left of what could not be written");
            match unfilled {
                RenderError::Missing(placeholder) => format!("{:?} is missing", placeholder.source),
                RenderError::NotAnObject(placeholder) => format!("{:?} is no object", placeholder.source),
            }
        }
    }
}

fn values() -> Values {
    Values {
        user: Some("ann \"a\"".to_owned()),
        msg: Some(r#"{"id":7,"s":"x\ny","o":{"a":1}}"#.to_owned()),
        data: Some(r#"{"price":185.50,"type":"mine"}"#.to_owned()),
    }
}

#[test]
fn messages_are_what_they_look_like() {
    for (json_template, message) in [
        (r#"{"type":"pong"}"#, r#"{"type":"pong"}"#),
        (r#""{user}""#, r#""ann \"a\"""#),
        (r#""{data}""#, r#"{"price":185.50,"type":"mine"}"#),
        (r#"{"a":[1,true,"{msg.id}",{}],"b":"{data.price}"}"#, r#"{"a":[1,true,7,{}],"b":185.50}"#),
        (r#"{"text":"{user}: {msg.s}, {msg.id}, {msg.o}"}"#, r#"{"text":"ann \"a\": x\ny, 7, {\"a\":1}"}"#),
        (r#"{"text":"{{{msg.id}}}"}"#, r#"{"text":"{7}"}"#),
        (r#"{"id":"{msg.none|default:null}"}"#, r#"{"id":null}"#),
        (r#"{"id":"{msg.none|default:a b}"}"#, r#"{"id":"a b"}"#),
        (r#"{"id":"{msg.none|optional}","x":1}"#, r#"{"x":1}"#),
        (r#"{"a":1,"id":"{msg.id|optional}"}"#, r#"{"a":1,"id":7}"#),
        (r#"["{msg.none|optional}","{msg.id|optional}","{user}"]"#, r#"[7,"ann \"a\""]"#),
        (r#"{"type":"x","...":"{data}"}"#, r#"{"price":185.50,"type":"x"}"#),
        (r#"{"deep":{"...":"{msg.o}"}}"#, r#"{"deep":{"a":1}}"#),
        ("[]", "[]"),
    ] {
        assert_eq!(rendered(json_template, &values(), OnMissing::Fail), message, "{json_template}");
    }
}

#[test]
fn what_is_missing_is_a_mistake_or_null() {
    for (json_template, error, null) in [
        (r#"{"a":"{msg.none}"}"#, "Message is missing", r#"{"a":null}"#),
        (r#"{"a":"x{msg.none}y"}"#, "Message is missing", r#"{"a":"xy"}"#),
        (r#"{"a":"{now}"}"#, "Now is missing", r#"{"a":null}"#),
        (r#"{"...":"{msg.id}"}"#, "Message is no object", "Message is no object"),
        (r#"{"...":"{user}"}"#, "User is no object", "User is no object"),
    ] {
        assert_eq!(rendered(json_template, &values(), OnMissing::Fail), error, "{json_template}");
        assert_eq!(rendered(json_template, &values(), OnMissing::Null), null, "{json_template}");
    }
}

#[test]
fn all_text_between_two_holes_is_one_piece() {
    let json_template = compiled(r#"{"a":[1,{"b":"c"}],"d":"{data}","e":"f","g":"{user}!"}"#).unwrap();
    assert_eq!(json_template.pieces.len(), 5, "{json_template:?}");
    assert_eq!(json_template.placeholders().len(), 2);
}

#[test]
fn what_cannot_be_compiled_says_why() {
    for (json_template, error) in [
        (
            r#"{"a":"{user"}"#,
            "\"{user\" has a brace that belongs to no placeholder: write {{ or }} for a brace",
        ),
        (
            r#"{"a":"user}"}"#,
            "\"user}\" has a brace that belongs to no placeholder: write {{ or }} for a brace",
        ),
        (
            r#"{"a":"{us{er}"}"#,
            "\"{us{er}\" has a brace that belongs to no placeholder: write {{ or }} for a brace",
        ),
        (r#"{"a":"{usr}"}"#, "there is no placeholder {usr}"),
        (
            r#"{"a":"x {msg.a|optional}"}"#,
            "\"x {msg.a|optional}\" has an optional placeholder: that must be all of a member or element, not a part of a text",
        ),
        (r#"{"...":"{data} and more"}"#, "\"...\" copies the members of an object: \"...\" = \"{data}\""),
    ] {
        assert_eq!(compiled(json_template).unwrap_err().to_string(), error, "{json_template}");
    }
    let many = format!("[{}]", vec![r#""{user}""#; 65].join(","));
    let long = format!("{:?}", "x".repeat(MAX_BYTES));
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    for json_template in [many, long, deep] {
        assert_eq!(compiled(&json_template), Err(JsonTemplateError::TooLarge));
    }
}

/// Any JSON of some depth.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        ".*".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-c]?", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// A template as in a file.
fn tree_of_file(value: &toml::Value) -> Tree {
    match value {
        toml::Value::String(text) => Tree::Text(text.clone()),
        toml::Value::Array(list) => Tree::List(list.iter().map(tree_of_file).collect()),
        toml::Value::Table(table) => {
            Tree::Table(table.iter().map(|(key, value)| (key.clone(), tree_of_file(value))).collect())
        }
        toml::Value::Integer(number) => Tree::Plain(number.to_string()),
        toml::Value::Boolean(is_so) => Tree::Plain(is_so.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) => panic!("{value:?} in a template"),
    }
}

/// Every template in a file, with its path. Subjects are not among them: they have another syntax.
fn templates<'t>(at: &str, value: &'t toml::Value, found: &mut Vec<(String, &'t toml::Value)>) {
    const TEMPLATES: [&str; 11] =
        ["send", "greeting", "ping", "confirm", "refuse", "message", "label", "data", "group", "keep", "set"];
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table.iter().filter(|(key, _)| *key != "when") {
                let at = format!("{at}.{key}");
                if TEMPLATES.contains(&key.as_str()) {
                    found.push((at, value));
                } else {
                    templates(&at, value, found);
                }
            }
        }
        toml::Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                templates(&format!("{at}[{number}]"), value, found);
            }
        }
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

#[test]
fn every_template_of_every_vocabulary_compiles() {
    for (name, text) in shipped_files() {
        let (file, mut found) = (toml::Value::Table(text.parse().unwrap()), Vec::new());
        templates(&name, &file, &mut found);
        assert!(found.len() > 5, "{name}: {found:?}");
        for (at, template) in found {
            if let Err(error) = JsonTemplate::compile(&tree_of_file(template), TimeFormat::default()) {
                panic!("{at}: {error}");
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_holes_hold_a_message_is_json_with_these_values(
        user in ".*", msg in any_json(), data in any_json(),
    ) {
        let values = Values {
            user: Some(user.clone()),
            msg: Some(serde_json::json!({ "x": msg }).to_string()),
            data: Some(data.to_string()),
        };
        let json_template = r#"{"u":"{user}","t":"<{user}> {{{msg.x}}}","l":["{data}","{msg.x|optional}"],"s":"{data|string}","...":"{msg}"}"#;
        let message = rendered(json_template, &values, OnMissing::Null);
        let message: Json = serde_json::from_str(&message).unwrap();
        prop_assert_eq!(&message["u"], &Json::from(user.clone()));
        prop_assert_eq!(&message["l"][0], &data);
        let has = !msg.is_null();
        prop_assert_eq!(message["l"].as_array().map(Vec::len), Some(1 + usize::from(has)));
        prop_assert_eq!(&message["x"], &msg);
        let text = |json: &Json| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
        let inner = if has { text(&msg) } else { String::new() };
        prop_assert_eq!(&message["t"], &Json::from(format!("<{user}> {{{inner}}}")));
        let as_text = if data.is_null() { Json::Null } else { Json::from(text(&data)) };
        prop_assert_eq!(&message["s"], &as_text);
    }

    #[test]
    fn no_text_is_a_panic(text in "[a-z.|:{} \"\\\\]{0,40}", also in ".*") {
        for text in [text, also] {
            let json_template = JsonTemplate::compile(&Tree::Text(text), TimeFormat::default());
            if let Ok(json_template) = json_template {
                let mut out = Vec::new();
                if json_template.render(&Values::default(), OnMissing::Null, &mut out).is_ok() {
                    prop_assert!(serde_json::from_slice::<Json>(&out).is_ok());
                }
            }
        }
    }
}

#[test]
fn what_is_each_clients_own_is_a_slot_wherever_it_is_in_the_message() {
    for (json_template, whole) in [
        (r#"["{user}","{data.x|optional}",1]"#, r#"["alice",1]"#),
        (r#"["{user}","{data|optional}"]"#, r#"["alice",{"price":185.5}]"#),
        (r#"["{data|optional}","{user}","{user}"]"#, r#"[{"price":185.5},"alice","alice"]"#),
        (r#"{"to":"for {user}!","of":"{data|optional}"}"#, r#"{"of":{"price":185.5},"to":"for alice!"}"#),
        (r#"{"list":[["{user}"]],"x":1}"#, r#"{"list":[["alice"]],"x":1}"#),
    ] {
        let mut json_template = compiled(json_template).unwrap();
        let mut slots = Vec::new();
        assert!(json_template.extract_slots(&mut slots));
        let values =
            Values { user: Some("alice".to_owned()), data: Some(r#"{"price":185.5}"#.to_owned()), msg: None };
        let write =
            |out: &mut Vec<u8>| json_template.render_with_slots(&values, OnMissing::Null, out).unwrap();
        let frame = Scratch::default().frame(0, write, &[]);
        let inserts: Vec<_> = slots.iter().map(|cut| cut.insert(&values)).collect();
        let filled = frame.fill_slots(|number| inserts.get(usize::from(number) - 1).map(|insert| &**insert));
        assert_eq!(String::from_utf8_lossy(filled.message()), whole);
    }
}
