//! Checks of the JSON Schema for vocabularies: each shipped file is valid, and keys and values are the compiler's.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::time_format::TimeFormat;

use crate::files;
use crate::read;

const FILE: &str = "vocabularies/vocabulary.schema.json";

fn schema() -> Value {
    serde_json::from_str(&read(FILE)).unwrap()
}

fn json(text: &str) -> Value {
    let table: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    serde_json::to_value(table).unwrap()
}

#[test]
fn every_shipped_vocabulary_passes_the_schema() {
    let shipped = files("vocabularies", "toml", false);
    let shipped: Vec<_> = shipped.into_iter().filter(|file| !file.ends_with(".config.toml")).collect();
    assert!(shipped.len() >= 7, "{shipped:?}");
    let schema = schema();
    for file in shipped {
        let text = read(&file);
        assert!(text.starts_with("#:schema ./vocabulary.schema.json\n"), "{file} does not name its schema");
        assert_eq!(wrong(&schema, &schema, &json(&text), ""), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn what_the_compiler_takes_the_schema_takes() {
    let schema = schema();
    let text = "name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x\"\n[[receive]]\ndo = \"subscribe\"\n\
        channel = \"a.{item}\"\neach = [1, \"b\"]\n[[deliver]]\npattern = \"a.*\"\nsend = 1\n";
    assert!(compile(text).is_ok());
    assert_eq!(wrong(&schema, &schema, &json(text), ""), Vec::<String>::new());
}

#[test]
fn the_program_prints_the_schema_that_is_shipped() {
    let program = &mut Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = program.args(["vocabulary", "schema"]).env_clear().output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == read(FILE).as_bytes(), "tidegate vocabulary schema > {FILE}");
}

#[test]
fn what_the_compiler_refuses_the_schema_refuses() {
    let schema = schema();
    let whole = "name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x\"\n";
    assert_eq!(wrong(&schema, &schema, &json(whole), ""), Vec::<String>::new());
    for (added, at) in [
        ("", "/name"),
        ("nmae = \"x\"", "/nmae"),
        ("[[receive]]\ndo = \"subscribe\"", "/receive/0"),
        ("[[receive]]\ndo = \"subscrbe\"\nchannel = \"a\"", "/receive/0/do"),
        ("[[receive]]\ndo = \"ignore\"\nchannel = \"a\"", "/receive/0/channel"),
        ("[[receive]]\ndo = \"replace\"\nchannel = \"a\"", "/receive/0/group"),
        ("[[receive]]\ndo = \"error\"\ncode = 4000\nmessage = \"\"", "/receive/0/code"),
        ("[[receive]]\ndo = \"close\"\ncode = 1001", "/receive/0/code"),
        ("[[receive]]\nwhen = { a = [] }\ndo = \"ignore\"", "/receive/0/when/a"),
        ("[[receive]]\nwhen = { a = 1.5 }\ndo = \"ignore\"", "/receive/0/when/a"),
        ("[[receive]]\ndo = \"subscribe\"\nchannels = []", "/receive/0/channels"),
        ("[[receive]]\ndo = \"subscribe\"\nchannel = \"a.{item}\"\neach = []", "/receive/0/each"),
        ("[[deliver]]\npattern = \"a\"", "/deliver/0/send"),
        ("[protocol]\ntime = \"local\"", "/protocol/time"),
        ("[error.close]\nforbidden = 1000", "/error/close/forbidden"),
        ("[close]\nforbidden = 4000", "/close/forbidden"),
        ("[[http]]\nmethod = \"PATCH\"\npath = \"/y\"\ndo = \"stats\"", "/http/0/method"),
    ] {
        let text = match added {
            "" => whole.replacen("name", "description", 1),
            added if added.starts_with('[') => format!("{whole}{added}"),
            added => format!("{added}\n{whole}"),
        };
        assert!(compile(&text).is_err(), "{added}: the compiler takes it");
        let found = wrong(&schema, &schema, &json(&text), "");
        assert!(found.iter().any(|found| found.starts_with(at)), "{added}: {found:?}");
    }
}

#[test]
fn the_keys_of_the_schema_are_those_of_the_compiler() {
    let schema = schema();
    let sections = [
        ("", "/properties"),
        ("[protocol]", "/properties/protocol/properties"),
        ("[[path]]", "/$defs/path/properties"),
        ("[greeting]", "/properties/greeting/properties"),
        ("[heartbeat]", "/properties/heartbeat/properties"),
        ("[unknown]", "/properties/unknown/properties"),
        ("[[deliver]]", "/$defs/deliver/properties"),
        ("[error]", "/properties/error/properties"),
        ("[error.codes]", "/properties/error/properties/codes/properties"),
        ("[error.refuse_codes]", "/properties/error/properties/refuse_codes/properties"),
        ("[error.close]", "/properties/error/properties/close/properties"),
        ("[gap]", "/properties/gap/properties"),
        ("[stale]", "/properties/stale/properties"),
        ("[unsubscribed]", "/properties/unsubscribed/properties"),
        ("[expiring]", "/properties/expiring/properties"),
        ("[close]", "/properties/close/properties"),
    ];
    for (section, pointer) in sections {
        let mut known = known(&format!("{section}\nzzz = 1"), "zzz");
        // These keys are next to a map whose names are free.
        known.extend(match section {
            "[error.codes]" | "[error.refuse_codes]" => Some("default".to_owned()),
            "[close]" => Some("send".to_owned()),
            _ => None,
        });
        let keys = schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned();
        assert_eq!(keys.collect::<BTreeSet<_>>(), known, "{section}");
    }
}

#[test]
fn the_words_of_the_schema_and_what_each_takes_are_those_of_the_compiler() {
    let schema = schema();
    for (section, pointer) in [
        ("[[receive]]", "/$defs/receive"),
        ("[[path]]\n[[path.on_connect]]", "/$defs/on_connect"),
        ("[[http]]", "/$defs/http"),
    ] {
        let rule = schema.pointer(pointer).unwrap();
        let words = list(&rule["properties"]["do"]["enum"]);
        if !section.contains("on_connect") {
            assert_eq!(words, known(&format!("{section}\ndo = \"zzz\""), "do"), "{section}");
        }
        let branches = rule["allOf"].as_array().unwrap();
        assert_eq!(branches.len(), words.len());
        let mut all = BTreeSet::new();
        for branch in branches {
            let word = branch["if"]["properties"]["do"]["const"].as_str().unwrap();
            assert!(words.contains(word), "{word}");
            let keys = list(&branch["then"]["propertyNames"]["enum"]);
            assert_eq!(
                keys,
                known(&format!("{section}\ndo = \"{word}\"\nzzz = 1"), "zzz"),
                "{section} {word}"
            );
            all.extend(keys);
        }
        let keys: BTreeSet<_> = rule["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, all, "{section}");
    }
}

#[test]
fn the_names_of_the_schema_are_those_of_the_code() {
    let schema = schema();
    let names = |pointer: &str| list(schema.pointer(pointer).unwrap());
    let errors = ErrorCode::ALL.iter().map(|code| code.name().to_owned());
    assert_eq!(names("/$defs/error_name/enum"), errors.collect());
    let times = TimeFormat::names().map(str::to_owned);
    assert_eq!(names("/properties/protocol/properties/time/enum"), times.collect());
    for end in Disconnect::ALL {
        let vocabulary = &schema["properties"]["close"]["properties"][end.name()]["description"];
        assert_eq!(vocabulary, &format!("Default: {}.", end.code()));
    }
}

fn list(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The keys that the compiler suggests where it finds an unknown `key`.
fn known(text: &str, key: &str) -> BTreeSet<String> {
    let mistakes = compile(text).unwrap_err();
    let is_it = |last: &str| last == key;
    let error = mistakes.iter().find(|error| error.key.rsplit('.').next().is_some_and(is_it));
    let cure = &error.unwrap_or_else(|| panic!("{text}: {mistakes:?}")).help;
    let (_, known) = cure.split_once("are ").unwrap_or_else(|| panic!("{text}: {cure}"));
    known.split(", ").map(str::to_owned).collect()
}

/// The places where a value does not match a schema. Panics at a keyword of JSON Schema that it does not know.
fn wrong(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, outgoing) in schema.as_object().unwrap() {
        let fails = |holds: bool| if holds { vec![] } else { vec![format!("{at}: {word} {outgoing}")] };
        let size = |text: &Value| text.as_str().map(|text| text.chars().count() as u64);
        let items = value.as_array();
        found.extend(match word.as_str() {
            "$schema" | "$defs" | "title" | "description" => vec![],
            "$ref" => wrong(
                root,
                root.pointer(outgoing.as_str().unwrap().trim_start_matches('#')).unwrap(),
                value,
                at,
            ),
            "type" => {
                let types = outgoing.as_array().map_or_else(|| std::slice::from_ref(outgoing), Vec::as_slice);
                fails(types.iter().any(|one| is_of(value, one)))
            }
            "enum" => fails(outgoing.as_array().unwrap().contains(value)),
            "const" => fails(outgoing == value),
            "minimum" => fails(value.as_i64().is_none_or(|number| number >= outgoing.as_i64().unwrap())),
            "maximum" => fails(value.as_i64().is_none_or(|number| number <= outgoing.as_i64().unwrap())),
            "minLength" => fails(size(value).is_none_or(|size| size >= outgoing.as_u64().unwrap())),
            "maxLength" => fails(size(value).is_none_or(|size| size <= outgoing.as_u64().unwrap())),
            "minItems" => fails(items.is_none_or(|items| items.len() as u64 >= outgoing.as_u64().unwrap())),
            "maxItems" => fails(items.is_none_or(|items| items.len() as u64 <= outgoing.as_u64().unwrap())),
            "items" => {
                let items = items.into_iter().flatten().enumerate();
                items
                    .flat_map(|(index, item)| wrong(root, outgoing, item, &format!("{at}/{index}")))
                    .collect()
            }
            "anyOf" => {
                let all = outgoing.as_array().unwrap();
                fails(all.iter().any(|one| wrong(root, one, value, at).is_empty()))
            }
            "allOf" => {
                let all = outgoing.as_array().unwrap();
                all.iter().flat_map(|one| wrong(root, one, value, at)).collect()
            }
            "if" if !wrong(root, outgoing, value, at).is_empty() => vec![],
            "if" => wrong(root, &schema["then"], value, at),
            "then" => vec![],
            "required" | "properties" | "additionalProperties" | "propertyNames" => {
                of_members(root, schema, word, value, at)
            }
            _ => panic!("{at}: this test does not know {word}"),
        });
    }
    found
}

fn of_members(root: &Value, schema: &Value, word: &str, value: &Value, at: &str) -> Vec<String> {
    let (Some(members), outgoing) = (value.as_object(), &schema[word]) else { return vec![] };
    let below = |name: &str| format!("{at}/{name}");
    if word == "required" {
        let names = outgoing.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let absent = names.filter(|name| !members.contains_key(*name));
        return absent.map(|name| format!("{}: is missing", below(name))).collect();
    }
    let mut found = Vec::new();
    for (name, value) in members {
        let own = &schema["properties"][name];
        match (word, outgoing) {
            ("properties", _) if own.is_null() => {}
            ("properties", _) => found.extend(wrong(root, own, value, &below(name))),
            ("propertyNames", _) => {
                found.extend(wrong(root, outgoing, &Value::from(name.as_str()), &below(name)));
            }
            (_, Value::Bool(false)) if own.is_null() => found.push(format!("{}: is unknown", below(name))),
            (_, Value::Object(_)) if own.is_null() => {
                found.extend(wrong(root, outgoing, value, &below(name)))
            }
            _ => {}
        }
    }
    found
}

fn is_of(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no kind of value"),
    }
}
