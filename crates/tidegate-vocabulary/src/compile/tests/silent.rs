//! What compiled once, and then did nothing, or what a client wanted.

use std::sync::Arc;

use super::*;
use crate::binding::Binding;
use crate::inbound;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::frame::VocabularyId;

const SHOWN: &str = "[[deliver]]\npattern = \"a.*\"\nsend = 1\n";

fn rule(act: &str, keys: &str) -> String {
    format!("[[receive]]\nwhen = {{ op = \"{act}\" }}\ndo = \"{act}\"\n{keys}\n")
}

#[test]
fn what_is_left_in_another_group_than_it_was_joined_in_is_refused() {
    let channel = "channel = \"a.{msg.x}\"\n";
    let in_group = |group: &str| format!("{channel}group = {group}");
    for (joined, left, is_wrong) in [
        (in_group("\"events\""), channel.to_owned(), true),
        (channel.to_owned(), in_group("\"events\""), true),
        (in_group("\"events\""), in_group("\"event\""), true),
        (in_group("\"events\""), String::new(), true),
        (channel.to_owned(), "group = \"events\"".to_owned(), true),
        (in_group("\"{msg.id}\""), channel.to_owned(), true),
        (channel.to_owned(), channel.to_owned(), false),
        (channel.to_owned(), String::new(), false),
        (in_group("\"events\""), in_group("\"events\""), false),
        (in_group("\"{msg.id}\""), in_group("\"{msg.id}\""), false),
        (in_group("\"{msg.id}\""), in_group("\"{msg.of}\""), false),
        (in_group("\"{msg.kind}\""), in_group("\"events\""), false),
        (in_group("\"\""), channel.to_owned(), false),
        (in_group("\"{msg.id|default:}\""), channel.to_owned(), false),
        (in_group("\"events\""), "channel = \"b\"".to_owned(), false),
    ] {
        let file = rule("subscribe", &joined) + &rule("unsubscribe", &left) + SHOWN;
        let said = Said(
            "receive[1].group (when {\"op\":\"unsubscribe\"})",
            "leaves nothing on the path \"main\"",
            "receive[0]",
        );
        check(&mistakes(&file), if is_wrong { std::slice::from_ref(&said) } else { &[] }, &file);
    }
    // One of several rules is enough, and what is joined at once counts.
    let file = rule("subscribe", &in_group("\"a\""))
        + &rule("replace", &in_group("\"b\""))
        + &rule("unsubscribe", &in_group("\"b\""))
        + SHOWN;
    check(&mistakes(&file), &[], &file);
}

#[test]
fn json_that_is_put_together_by_hand_is_refused() {
    let publish = |data: &str| rule("publish", &format!("subject = \"a.b\"\ndata = {data}"));
    for data in [
        r#"'{{"text":"{msg.text}"}}'"#,
        r#"'{{"text":{msg.text}}}'"#,
        r#"{ body = '{{"user":"{user}","text":"{msg.text}"}}' }"#,
        r#"'["{msg.text}"]'"#,
        r#"'  {{ "of": "{claims.name}" }}'"#,
        r#"["x", '{{"path":"{query.x}"}}']"#,
    ] {
        let found = mistakes(&publish(data));
        assert_eq!(found.len(), 1, "{data}: {found:?}");
        assert!(
            found[0].key.starts_with("receive[0].data") && found[0].message.contains("could add members"),
            "{found:?}"
        );
        assert!(
            found[0].help.contains("write it as a table") && found[0].help.contains("|string}"),
            "{found:?}"
        );
    }
    for data in [
        r#"{ text = "{msg.text}" }"#,
        r#"'{{"user":"{user}","n":{msg.n|number},"at":"{now}"}}'"#,
        r#"'[{user}] says "{msg.text}"'"#,
        r#"'{{{msg.text}}}'"#,
        r#"'{{"fixed":1}}'"#,
        r#""{msg|string}""#,
        r#"'{{"half {msg.text}'"#,
    ] {
        assert_eq!(mistakes(&publish(data)), [], "{data}");
    }
}

fn binding(token_field: &str) -> Binding {
    let file =
        format!("name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\ntoken_field = \"{token_field}\"");
    let described = Arc::new(compile(&file).unwrap().described);
    described.bind(VocabularyId(1), "/a", None, |_| None).unwrap()
}

#[test]
fn a_path_to_the_token_is_followed() {
    let shown = |field: &str, message: &str| {
        inbound::credential(&binding(field), &ClientMessage::Text(message.to_owned()))
    };
    for (field, message) in [
        ("auth", r#"{"auth":"t"}"#),
        ("data.auth", r#"{"data":{"auth":"t"}}"#),
        ("a.b.c", r#"{"a":{"b":{"c":"t"}}}"#),
    ] {
        assert_eq!(shown(field, message).as_deref(), Some("t"), "{field}");
    }
    for (field, message) in [
        ("data.auth", r#"{"data.auth":"t"}"#),
        ("data.auth", r#"{"auth":"t"}"#),
        ("data.auth", r#"{"data":"t"}"#),
        ("data.auth", r#"{"data":{"auth":7}}"#),
        ("auth", r#"{"auth":{"t":1}}"#),
    ] {
        assert_eq!(shown(field, message), None, "{field} {message}");
    }
}

#[test]
fn a_place_where_no_token_can_be_is_refused() {
    for (key, values) in [
        ("token_field", &["", ".", "data.", "data..auth", " token", "{msg.token}", "msg.token"][..]),
        ("token_query", &["", "a b", "a&b", "a=b", "?a", "{token}", "a#"]),
    ] {
        for value in values {
            let file = format!("name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n{key} = \"{value}\"");
            let found = compile(&file).unwrap_err();
            assert_eq!(
                (found.len(), found[0].key.as_str()),
                (1, &*format!("path[0].{key}")),
                "{value}: {found:?}"
            );
        }
    }
}

#[test]
fn a_configuration_in_place_of_a_vocabulary_is_recognised() {
    let found = compile("[http]\nlisten = \"a\"\n[nats]\n[[role]]\n").unwrap_err();
    let of = |key: &str| found.iter().filter(|mistake| mistake.key == key).collect::<Vec<_>>();
    for key in ["nats", "role"] {
        assert!(of(key)[0].help.contains("tidegate check --config"), "{found:#?}");
    }
    assert_eq!(of("http").len(), 1, "said once: {found:#?}");
}

#[test]
fn a_value_that_json_does_not_have_is_refused_wherever_a_template_stands() {
    let rule = "[[receive]]\ndo = \"subscribe\"\nchannel = \"a\"\n";
    for (keys, key) in [
        ("require = { \"msg.day\" = 1979-05-27 }", "receive[0].require.msg.day"),
        ("keep = { day = 1979-05-27 }", "receive[0].keep.day"),
        ("set = { day = [nan] }", "receive[0].set.day"),
        ("confirm = { day = inf }", "receive[0].confirm"),
    ] {
        let found = mistakes(&format!("{rule}{keys}\n"));
        check(&found, &[Said(key, "has a value that JSON does not have", "times as texts")], keys);
    }
}

#[test]
fn a_key_of_another_section_is_led_there() {
    let deliver = "[[deliver]]\npattern = \"a\"\nsend = 1\n";
    for (section, key, homes) in [
        (
            "[protocol]\ndescription = \"x\"\n",
            "protocol.description",
            "the top of the file, above all sections",
        ),
        (&format!("{deliver}token_query = \"t\"\n"), "deliver[0].token_query", "[[path]]"),
        (&format!("{deliver}refuse = 1\n"), "deliver[0].refuse", "[[receive]]"),
        ("[unknown]\nstatus = 400\n", "unknown.status", "[[http]]"),
    ] {
        let found = mistakes(section);
        let mistake = found.iter().find(|mistake| mistake.key == key).unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!(mistake.message, format!("is not a key of this section, but of {homes}"));
        assert_eq!(mistake.help, "move it there, or remove it");
    }
    let nowhere = mistakes("[unknown]\nmesage = \"x\"\n");
    assert!(nowhere[0].help.starts_with("did you mean \"message\"?"), "{nowhere:?}");
}
