//! `token_field`: a path to the token in a message is followed.

use std::sync::Arc;

use super::*;
use crate::binding::Binding;
use crate::inbound;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::frame::VocabularyId;

fn binding(token_field: &str) -> Binding {
    let file =
        format!("name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\ntoken_field = \"{token_field}\"");
    let vocabulary = Arc::new(compile(&file).unwrap().vocabulary);
    vocabulary.bind(VocabularyId(1), "/a", None, |_| None).unwrap()
}

#[test]
fn the_token_is_the_text_at_the_path() {
    let token = |field: &str, message: &str| {
        inbound::credential(&binding(field), &ClientMessage::Text(message.to_owned()))
    };
    for (field, message) in [
        ("auth", r#"{"auth":"t"}"#),
        ("data.auth", r#"{"data":{"auth":"t"}}"#),
        ("a.b.c", r#"{"a":{"b":{"c":"t"}}}"#),
    ] {
        assert_eq!(token(field, message).as_deref(), Some("t"), "{field}");
    }
    for (field, message) in [
        ("data.auth", r#"{"data.auth":"t"}"#),
        ("data.auth", r#"{"auth":"t"}"#),
        ("data.auth", r#"{"data":"t"}"#),
        ("data.auth", r#"{"data":{"auth":7}}"#),
        ("auth", r#"{"auth":{"t":1}}"#),
    ] {
        assert_eq!(token(field, message), None, "{field} {message}");
    }
}
