//! Users whose names are no tokens, such as `a.b@example.org`, in paths that only they may use.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;

use crate::support::edge::class;
use crate::support::edge::role;
use crate::vocabularies::names::escaped;
use crate::vocabularies::stage::Stage;

/// Every kind of endpoint whose path is compared with the user.
const FILE: &str = r#"
name = "own-paths"

[[path]]
name = "own"
path = "/ws/{user_id}"
require = { "path.user_id" = "{user}" }

[[path.on_connect]]
do = "subscribe"
channel = "user.{user}.alerts"

[[receive]]
when = { do = "order" }
do = "publish"
subject = "orders.{user}"
data = "{msg}"

[[deliver]]
pattern = "user.*.alerts"
send = "{data}"

[[http]]
method = "GET"
path = "/last/{user_id}"
require = { "path.user_id" = "{user}" }
do = "last"
channel = "user.{user}.alerts"
send = { list = "{list}" }

[[http]]
method = "POST"
path = "/orders/{user_id}"
require = { "path.user_id" = "{user}" }
do = "publish"
subject = "orders.{user}"
data = "{msg}"

[[http]]
method = "POST"
path = "/receive/{user_id}"
require = { "path.user_id" = "{user}" }
do = "receive"
"#;

const EMAIL: &str = "a.b@example.org";
const TOKEN: &str = "a=2Eb@example=2Eorg";

async fn stage() -> Stage {
    Stage::start("own-paths", FILE, |config| {
        config.auth.user_claim = "email".to_owned();
        config.roles = vec![role("user", &["user.{sub}.alerts"], &["orders.{sub}"], &[])];
        config.classes = vec![Class { kind: Kind::Latest, snapshot: true, ..class("user.*.alerts") }];
    })
    .await
}

fn of(email: &str) -> Value {
    json!({ "sub": "7", "email": email, "email_verified": true, "role": "user" })
}

#[tokio::test]
async fn a_user_whose_name_is_no_token_may_use_the_paths_of_that_name_and_no_others() {
    let mut stage = stage().await;
    for named in [EMAIL.to_owned(), escaped(EMAIL)] {
        let _page = stage.page(&format!("/ws/{named}"), &of(EMAIL), 1).await;
        for (method, path, status) in
            [("GET", "last", 200), ("POST", "orders", 200), ("POST", "receive", 202)]
        {
            let target = format!("/{path}/{named}");
            let answer = stage.call(method, &target, &of(EMAIL), r#"{"do":"order"}"#).await;
            assert_eq!(answer.status, status, "{target}: {answer:?}");
            let answer = stage.call(method, &target, &of("a@example.org"), r#"{"do":"order"}"#).await;
            assert_eq!(answer.status, 403, "{target}: {answer:?}");
        }
    }
    for other in ["a.b@example.com", "a.c@example.org", TOKEN, "*", "a b"].map(escaped) {
        let answer = stage.handshake(&format!("/ws/{other}"), &of(EMAIL)).await;
        assert_eq!(answer.status, 403, "{other}: {answer:?}");
    }
    assert_eq!(stage.subscribed().await, [format!("user.{TOKEN}.alerts")]);
    let published = stage.published().await;
    let orders = published.iter().map(|message| message.subject.as_str()).collect::<Vec<_>>();
    assert_eq!(orders, [&*format!("orders.{TOKEN}"); 4]);
}
