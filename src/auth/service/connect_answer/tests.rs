//! Answers of services: what they give, and every way in which they can be wrong.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use super::*;
use crate::auth::service::ClientFacts;
use crate::auth::service::ConnectService;
use crate::auth::service::MAX_ANSWER;
use crate::auth::service::MAX_MESSAGE;
use crate::auth::service::subscribe::SubscribeDecision;
use crate::auth::service::subscribe::SubscribeQuestion;
use crate::auth::service::subscribe::read_answer;
use crate::auth::tests::NOW;
use crate::auth::tests::at;
use crate::auth::tests::authenticator;
use crate::auth::tests::config;
use crate::config::auth::AuthConfig;
use crate::config::auth::service::ServiceConfig;

fn read(answer: &Value) -> Result<Answer<ConnectDecision>, String> {
    read_with(config(), answer)
}

fn read_with(config: AuthConfig, answer: &Value) -> Result<Answer<ConnectDecision>, String> {
    authenticator(config).read_connect_answer(answer.to_string().as_bytes(), at(NOW))
}

/// A right answer with these changes; `null` removes a member.
fn changed(changes: &Value) -> Value {
    let mut answer = json!({ "user": "alice", "roles": ["user"], "expires": NOW + 60 });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            answer.as_object_mut().unwrap().remove(name);
        } else {
            answer[name] = value.clone();
        }
    }
    answer
}

fn identity(answer: &Value) -> Arc<Identity> {
    match read(answer).unwrap().value {
        ConnectDecision::Identity(identity) => identity,
        ConnectDecision::Refused(message) => panic!("{message}"),
    }
}

#[test]
fn an_answer_becomes_an_identity_with_an_end() {
    let more = json!({
        "roles": ["user", "member", "user"], "id": "session-7", "channels": ["prices.AAPL", "org.acme.news"],
        "claims": { "org": { "id": "acme", "team": "blue" } },
    });
    let identity = identity(&changed(&more));
    let allows = |channel: &str| {
        let channel = Pattern::parse(channel).unwrap();
        identity.permissions.decide(Operation::Subscribe, &channel).is_allowed()
    };
    assert!(["user.alice.x", "org.acme.news", "team.blue.x"].into_iter().all(allows));
    assert!(!allows("user.bob.x"));
    assert_eq!(identity.roles.iter().map(|role| &**role).collect::<Vec<_>>(), ["user", "member"]);
    assert_eq!((identity.expires, identity.issued), (Some(at(NOW + 60)), Some(at(NOW))));
    assert_eq!((&*identity.user, identity.token_id.as_deref()), ("alice", Some("session-7")));
    assert_eq!(identity.channels.as_ref().unwrap().len(), 2);
    assert!(!identity.anonymous);
}

#[test]
fn an_answer_is_kept_as_long_as_it_says_but_never_beyond_its_end() {
    for (changes, keep) in [
        (json!({}), 5),
        (json!({ "cache_s": 0 }), 0),
        (json!({ "cache_s": 60, "expires": NOW + 3600 }), 60),
        (json!({ "cache_s": 60, "expires": NOW + 7 }), 7),
    ] {
        assert_eq!(read(&changed(&changes)).unwrap().keep, Duration::from_secs(keep), "{changes}");
    }
    let refused = |answer: Value| read(&answer).unwrap();
    assert_eq!(refused(json!({ "refused": "" })).keep, KEEP_REFUSAL);
    assert_eq!(refused(json!({ "refused": "", "cache_s": 60 })).keep, KEEP_REFUSAL);
    assert_eq!(refused(json!({ "refused": "", "cache_s": 1 })).keep, Duration::from_secs(1));
}

#[test]
fn a_message_for_the_client_is_one_short_line() {
    for (message, shown) in [
        ("your trial has ended", "your trial has ended"),
        (" \r\n ", "the credential was refused"),
        ("a\r\nInjected: 1\u{1b}[2J", "aInjected: 1[2J"),
        (&*"é".repeat(500), &*"é".repeat(MAX_MESSAGE)),
    ] {
        let answer = read(&json!({ "refused": message })).unwrap();
        assert_eq!(answer.value, ConnectDecision::Refused(shown.into()));
    }
}

#[test]
fn svc_03_a_lying_service_gives_no_identity_and_the_log_says_why() {
    let long: Vec<String> = (0..100).map(|at| format!("prices.{at}")).collect();
    for (changes, problem) in [
        (json!({ "user": null }), "neither `user` nor `refused`"),
        (json!({ "refused": "no" }), "both `user` and `refused`"),
        (json!({ "user": "" }), "cannot be part of a subject"),
        (json!({ "user": "a.>" }), "cannot be part of a subject"),
        (json!({ "user": 7 }), "invalid type"),
        (json!({ "roles": null }), "no `roles`"),
        (json!({ "roles": [] }), "no `roles`"),
        (json!({ "roles": "user" }), "invalid type"),
        (json!({ "roles": ["User"] }), "no configured [[role]]"),
        (json!({ "roles": ["user", "root"] }), "no configured [[role]]"),
        (json!({ "roles": ["member"] }), "placeholders of role \"member\""),
        (json!({ "roles": vec!["user"; 33] }), "33 roles"),
        (json!({ "expires": null }), "no `expires`"),
        (json!({ "expires": NOW }), "in the past"),
        (json!({ "expires": (NOW + 60) * 1000 }), "milliseconds"),
        (json!({ "expires": -1 }), "invalid value"),
        (json!({ "channels": long }), "100 channels"),
        (json!({ "cache_s": 61 }), "more than 60"),
        (json!({ "role": "admin" }), "unknown field `role`"),
    ] {
        let error = read(&changed(&changes)).unwrap_err();
        assert!(error.contains(problem), "{changes}: {error}");
    }
    let short_lived = AuthConfig { max_token_lifetime: Duration::from_secs(59), ..config() };
    assert!(read_with(short_lived, &changed(&json!({}))).unwrap_err().contains("max_token_lifetime_s"));
    let read =
        |text: &str| authenticator(config()).read_connect_answer(text.as_bytes(), at(NOW)).unwrap_err();
    for text in ["", "null", "[]", "alice", "{\"user\":\"a\",\"user\":\"b\"}", &"[".repeat(10_000)] {
        assert!(!read(text).is_empty(), "{text}");
    }
    assert!(read(&" ".repeat(MAX_ANSWER + 1)).contains("at most 16384"));
}

#[test]
fn the_question_has_what_is_configured_and_equal_clients_ask_the_same() {
    let config = ServiceConfig {
        subject: Subject::parse("auth.connect").unwrap(),
        headers: Vec::new(),
        cookies: Vec::new(),
        timeout: Duration::from_secs(2),
        in_flight: 1,
    };
    let service = ConnectService::new(config);
    let facts = ClientFacts {
        address: Some([203, 0, 113, 7].into()),
        origin: Some("https://app.example.com".to_owned()),
        headers: vec![("x-device".to_owned(), vec!["a".to_owned(), "b".to_owned()])],
        cookies: vec![("sessionid".to_owned(), "s".to_owned())],
    };
    let question = service.question(Some("opaque"), "/ws", &facts);
    let written: Value = serde_json::from_slice(question.json()).unwrap();
    let expected = json!({
        "credential": "opaque", "endpoint": "/ws", "address": "203.0.113.7", "origin": "https://app.example.com",
        "headers": { "x-device": ["a", "b"] }, "cookies": { "sessionid": "s" },
    });
    assert_eq!(written, expected);
    let none = service.question(None, "/ws", &ClientFacts::default());
    let expected = json!({
        "credential": null, "endpoint": "/ws", "address": null, "origin": null, "headers": {}, "cookies": {},
    });
    assert_eq!(serde_json::from_slice::<Value>(none.json()).unwrap(), expected);
}

#[test]
fn a_question_about_a_channel_names_the_client_and_anonymous_ones_have_no_name() {
    let named = identity(&changed(&json!({})));
    let (channel, subject) = (Pattern::parse("rooms.*").unwrap(), Subject::parse("authz.rooms").unwrap());
    let ask = |identity: &Identity| {
        let question = SubscribeQuestion { identity, channel: &channel, endpoint: "/ws", address: None };
        serde_json::from_slice::<Value>(question.to(&subject).json()).unwrap()
    };
    let expected = json!({
        "channel": "rooms.*", "user": "alice", "roles": ["user"], "issuer": null, "claims": null, "endpoint": "/ws",
        "address": null,
    });
    assert_eq!(ask(&named), expected);
    let claims = Some(Arc::new("{\"org\":1}".to_owned()));
    let guest = Identity { anonymous: true, user: "anonymous".into(), claims, ..Identity::default() };
    assert_eq!((&ask(&guest)["user"], &ask(&guest)["claims"]), (&Value::Null, &json!({ "org": 1 })));
}

#[test]
fn answers_about_channels_allow_or_refuse_and_nothing_else() {
    let read = |answer: Value| read_answer(answer.to_string().as_bytes());
    assert_eq!(read(json!({ "allow": true })).unwrap().value, SubscribeDecision::Allowed);
    let refused = |answer: Value| match read(answer).unwrap().value {
        SubscribeDecision::Refused(message) => message,
        SubscribeDecision::Allowed => panic!("allowed"),
    };
    assert_eq!(&*refused(json!({ "allow": false, "message": "members only" })), "members only");
    assert_eq!(&*refused(json!({ "allow": false })), "this identity may not subscribe to this channel");
    for (answer, problem) in [
        (json!({}), "missing field `allow`"),
        (json!({ "allow": "true" }), "invalid type"),
        (json!({ "allow": 1 }), "invalid type"),
        (json!({ "allow": null }), "invalid type"),
        (json!({ "allow": true, "message": "no" }), "has a `message`"),
        (json!({ "allow": true, "cache_s": 3600 }), "more than 60"),
        (json!({ "allow": true, "deny": true }), "unknown field"),
    ] {
        let error = read(answer.clone()).unwrap_err();
        assert!(error.contains(problem), "{answer}: {error}");
    }
}
