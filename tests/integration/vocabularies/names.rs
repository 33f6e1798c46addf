//! Values that are no token, and names of other users: in messages and in paths.

use serde_json::json;

use crate::support::eventually;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::stage::is_error;
use crate::vocabularies::table::Does;
use crate::vocabularies::table::NO_TOKENS;
use crate::vocabularies::table::PLACES;
use crate::vocabularies::table::Place;
use crate::vocabularies::table::no_tokens;

/// Each vocabulary that has places, with them.
pub(crate) fn by_vocabulary(places: &[Place]) -> Vec<(&'static str, Vec<Place>)> {
    let mut all: Vec<(&str, Vec<Place>)> = Vec::new();
    for place in places {
        match all.iter_mut().find(|(vocabulary, _)| *vocabulary == place.vocabulary) {
            Some((_, of_it)) => of_it.push(*place),
            None => all.push((place.vocabulary, vec![*place])),
        }
    }
    all
}

fn subject(place: &Place) -> &'static str {
    match place.does {
        Does::Joins(subject) | Does::Asks(subject) | Does::Publishes(subject) => subject,
        Does::Leaves => "nothing",
    }
}

/// Each value in each place is refused, a good message still works, and NATS has seen nothing else.
async fn all_refuse(places: &[Place], values: &[String]) {
    for (vocabulary, places) in by_vocabulary(places) {
        let mut stage = Stage::shipped(vocabulary).await;
        for place in &places {
            let mut page = stage.page_for(place).await;
            for value in values {
                let before = stage.joined();
                page.is_refused(&place.with(value)).await;
                assert_eq!(stage.joined(), before, "{place:?} {value}");
                if !page.is_open {
                    page = stage.page_for(place).await;
                }
            }
            stage.works(&mut page, place).await;
        }
        let allowed: Vec<&str> = places.iter().map(subject).collect();
        stage.keeps_to(&allowed).await;
    }
}

#[tokio::test]
async fn sub_01_what_is_no_token_is_refused_in_every_message_of_every_vocabulary() {
    assert_eq!(by_vocabulary(&PLACES).len(), 7);
    all_refuse(&PLACES, &no_tokens()).await;
}

#[tokio::test]
async fn sub_06_nothing_is_published_or_asked_on_a_malformed_subject() {
    let writes = |place: &&Place| matches!(place.does, Does::Asks(_) | Does::Publishes(_));
    let places: Vec<Place> = PLACES.iter().filter(writes).copied().collect();
    let values = ["a..b", ".a", "a.", "a.*", ">"].map(|text| json!(text).to_string());
    all_refuse(&places, &values).await;
    let mut stage = Stage::shipped("hoardrun").await;
    let backend = json!({ "sub": "backend", "role": "backend" });
    for value in &values {
        for (what, member) in BROADCASTS {
            let body = format!("{{{member:?}:{value},\"data\":1}}");
            let answer = stage.call("POST", &format!("/ws/broadcast/{what}"), &backend, &body).await;
            assert_eq!(answer.status, 400, "{what} {value}: {answer:?}");
        }
    }
    stage.keeps_to(&[]).await;
}

/// Calls that publish where a member of the body says.
pub(crate) const BROADCASTS: [(&str, &str); 4] =
    [("notification", "user_id"), ("transaction", "user_id"), ("balance", "user_id"), ("market", "room")];

/// A text as a segment of a path, every byte of it escaped.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn sub_02_what_is_no_token_is_refused_in_every_path_decoded_once() {
    // A label may be any text: it opens nothing, which is all that matters here.
    for (vocabulary, path, is_label) in [
        ("ara", "/ws/predictions/", false),
        ("ara", "/ws/market-data/", false),
        ("financegpt", "/ws/", false),
        ("stock-agent", "/ws/", true),
    ] {
        let mut stage = Stage::shipped(vocabulary).await;
        let long = "x".repeat(300);
        let raw = [
            "%2E",
            "%2A",
            "%3E",
            "%20",
            "%0D%0A",
            "..",
            "%252E",
            "AAPL/../admin",
            "%",
            "%2",
            "%zz",
            "%+1",
            "%ff",
        ];
        let escapes = NO_TOKENS.into_iter().chain([&*long]).map(escaped);
        let twice = NO_TOKENS.iter().filter(|text| !text.is_empty()).map(|text| escaped(&escaped(text)));
        for value in raw.map(str::to_owned).into_iter().chain(escapes).chain(twice) {
            let answer = stage.knock(&format!("{path}{value}"), &json!({ "sub": "alice" })).await;
            let is_refused = matches!(answer.status, 400 | 403 | 404);
            assert!(is_refused || is_label && answer.status == 101, "{path}{value}: {answer:?}");
        }
        assert_eq!(stage.joined(), 0, "{vocabulary}");
        stage.keeps_to(&[]).await;
    }
    // The others have no values in their paths: what is there is no path of theirs.
    for (vocabulary, path) in [
        ("financegpt-mcp", "/"),
        ("graphql-ws", "/graphql/"),
        ("hoardrun", "/ws/notifications/"),
        ("sentio", "/ws/"),
    ] {
        let stage = Stage::shipped(vocabulary).await;
        for value in ["%2E", "%2A", "%252E", "AAPL/../admin", "alice"] {
            let answer = stage.knock(&format!("{path}{value}"), &json!({ "sub": "alice" })).await;
            assert_eq!(answer.status, 404, "{path}{value}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn sub_02_what_is_no_token_is_refused_in_every_query_and_body() {
    let mut stage = Stage::shipped("sentio").await;
    let alice = json!({ "sub": "alice", "role": "user" });
    for text in NO_TOKENS {
        for value in [escaped(text), escaped(&escaped(text))] {
            let target = format!("/api/v1/dashboard/trade-signals?symbols=AAPL,{value}");
            let answer = stage.call("GET", &target, &alice, "").await;
            assert_eq!(answer.status, 400, "{target}: {answer:?}");
        }
    }
    stage.keeps_to(&[]).await;
    let mut stage = Stage::shipped("hoardrun").await;
    let backend = json!({ "sub": "backend", "role": "backend" });
    for value in no_tokens() {
        for (what, member) in BROADCASTS {
            let body = format!("{{{member:?}:{value},\"data\":1}}");
            let answer = stage.call("POST", &format!("/ws/broadcast/{what}"), &backend, &body).await;
            assert_eq!(answer.status, 400, "{what} {value}: {answer:?}");
        }
    }
    stage.keeps_to(&[]).await;
    let mut stage = Stage::shipped("financegpt-mcp").await;
    for place in PLACES.iter().filter(|place| place.vocabulary == "financegpt-mcp") {
        for value in no_tokens() {
            let answer = stage.call("POST", "/mcp", &alice, &place.with(&value)).await;
            assert!(answer.status == 200 && is_error(&answer.json()), "{value}: {answer:?}");
        }
    }
    stage.keeps_to(&[]).await;
}

#[tokio::test]
async fn id_01_a_path_or_query_that_names_somebody_else_is_refused() {
    let bob = json!({ "sub": "bob", "role": "user" });
    for (vocabulary, target) in [
        ("financegpt", "/ws/alice"),
        ("financegpt", "/ws/%61lice"),
        ("financegpt", "/ws/Bob"),
        ("financegpt", "/ws/bo"),
    ] {
        let stage = Stage::shipped(vocabulary).await;
        assert_eq!(stage.knock(target, &bob).await.status, 403, "{target}");
        assert_eq!(stage.joined(), 0, "{target}");
    }
    let stage = Stage::shipped("sentio").await;
    for query in ["user_id=alice", "user_id=alice&user_id=bob", "us%65r_id=alice", "user_id=", "user_id=Bob"]
    {
        let target = format!("/api/v1/dashboard/earnings?{query}");
        assert_eq!(stage.call("GET", &target, &bob, "").await.status, 403, "{target}");
    }
}

#[tokio::test]
async fn id_01_a_message_that_names_somebody_else_is_refused() {
    let mut stage = Stage::shipped("sentio").await;
    for target in ["trade-signals", "earnings", "notifications", "admin", "market-data"] {
        let target = format!("/ws/{target}");
        let mut page = stage.page(&target, &json!({ "sub": "bob", "role": "user" }), 0).await;
        for id in [r#""alice""#, r#""""#, "7", "{}", r#"["bob"]"#, r#""*""#, r#""bob ""#, r#"true"#] {
            for action in ["subscribe", "unsubscribe", "ping"] {
                let message = format!(r#"{{"action":"{action}","user_id":{id}}}"#);
                page.is_refused(&message).await;
                page.is_refused(&format!(r#"{{"action":"{action}","user_id":"bob","user_id":{id}}}"#)).await;
                page.is_refused(&format!(r#"{{"action":"{action}","us\u0065r_id":{id}}}"#)).await;
            }
        }
        assert!(page.is_open);
    }
    assert_eq!(stage.joined(), 0);
    stage.keeps_to(&[]).await;
}

/// Where no rule asks who somebody is, members that name another user change nothing.
#[tokio::test]
async fn id_01_members_that_name_somebody_else_open_nothing() {
    let others = r#""user_id":"bob","user":"bob","sub":"bob","client_id":"bob","from":"bob","#;
    for (vocabulary, places) in by_vocabulary(&PLACES) {
        if vocabulary == "sentio" {
            continue;
        }
        let mut stage = Stage::shipped(vocabulary).await;
        for place in &places {
            let mut page = stage.page_for(place).await;
            let message: &'static str = format!("{{{others}{}", &place.message[1..]).leak();
            stage.works(&mut page, &Place { message, ..*place }).await;
        }
        let allowed: Vec<&str> = places.iter().map(subject).collect();
        stage.keeps_to(&allowed).await;
    }
    // What a page calls itself is no one's name.
    let stage = Stage::shipped("stock-agent").await;
    let mut page = stage.page("/ws/bob", &json!({ "sub": "alice", "role": "user" }), 0).await;
    page.send(r#"{"type":"subscribe","channel":"portfolio"}"#).await;
    eventually("alice has joined", || async { stage.joined() == 1 }).await;
    assert!(page.heard().await.is_empty());
    let subjects = stage.edge.nats.subjects("tidegate/").await;
    assert!(subjects.iter().any(|subject| subject == "user.alice.portfolio"), "{subjects:?}");
    assert!(!subjects.iter().any(|subject| subject.contains("bob")), "{subjects:?}");
}
