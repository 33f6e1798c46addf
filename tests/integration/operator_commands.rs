//! The commands for operators: `tidegate streams` and `tidegate token`, with the real program and the real NATS.

use crate::support::edge::SECRET;
use crate::support::nats_server::NatsServer;

/// Runs the program. Returns its exit code, and what it prints to standard output and standard error.
async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.args(arguments).env("TIDEGATE_AUTH__HMAC_SECRET", SECRET).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Creates the buckets of Tidegate.
pub(crate) async fn create_buckets(nats: &NatsServer) {
    let url = format!("nats.url={}", nats.url());
    let (code, said, errors) = run(&["streams", "apply", "--set", &url]).await;
    assert_eq!(code, Some(0), "{said}{errors}");
}

#[tokio::test]
async fn buckets_are_planned_then_created_and_then_there_is_nothing_to_do() {
    let nats = NatsServer::start().await;
    let url = format!("nats.url={}", nats.url());
    let (code, said, errors) = run(&["streams", "plan", "--set", &url]).await;
    assert_eq!(code, Some(1), "{said}{errors}");
    for bucket in ["tidegate_revoked", "tidegate_tickets"] {
        assert!(said.contains(&format!("create   {bucket}")), "{said}");
    }
    create_buckets(&nats).await;
    let (code, said, errors) = run(&["streams", "plan", "--set", &url]).await;
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("nothing to do"), "{said}");
    create_buckets(&nats).await;
}

#[tokio::test]
async fn buckets_need_jetstream() {
    let nats = NatsServer::with("jetstream: disabled").await;
    let url = format!("nats.url={}", nats.url());
    let (code, said, errors) = run(&["streams", "apply", "--set", &url]).await;
    assert_eq!(code, Some(1), "{said}{errors}");
    assert!(errors.contains("JetStream is not enabled"), "{errors}");
}

#[tokio::test]
async fn a_minted_token_is_accepted_and_explained_and_another_one_is_refused_with_the_reason() {
    let (code, token, errors) = run(&["token", "new", "--user", "alice", "--role", "user"]).await;
    assert_eq!(code, Some(0), "{errors}");
    let token = token.trim();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let (code, said, errors) = run(&["token", "check", token]).await;
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("alice") && said.contains("user.alice.>"), "{said}");
    let forged = format!("{}x", &token[..token.len() - 1]);
    let (code, said, errors) = run(&["token", "check", &forged]).await;
    assert_eq!(code, Some(1), "{said}{errors}");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!said.contains(signature) && !errors.contains(signature), "the signature is never shown");
}
