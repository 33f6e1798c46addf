//! `tidegate explain`: what it says is what a node does.

use serde_json::json;

use crate::support::client::Client;
use crate::support::command::tidegate;
use crate::support::edge::SECRET;
use crate::support::edge::token;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;

#[tokio::test]
async fn what_is_explained_is_what_a_node_decides() {
    let nats = NatsServer::start().await;
    let more = "[[role]]\nname = \"team\"\nsubscribe = { allow = [\"team.{teams}.>\"], deny = [\"chat.secret\"] }\n\
                [[class]]\npattern = \"prices.>\"\nkind = \"latest\"\nsnapshot = true";
    let node = Process::serve(&nats.node_url(), more).await;
    let config = node.folder.join("config.toml");
    let explain = async |arguments: &[&str], input: &str| {
        let command = [&["explain", "--config", config.to_str().unwrap()], arguments].concat();
        tidegate(&command, input).await
    };
    let of_token = token("alice");
    let mut client = Client::connect(&node.address, &of_token).await;
    for (subject, code, first) in [
        ("chat.a", 0, "allowed"),
        ("prices.*", 0, "allowed"),
        ("chat.>", 0, "allowed"),
        ("admin.users", 1, "denied: no single allow pattern of the client's roles covers it"),
        (">", 1, "denied: a pattern that begins with a wildcard"),
        ("$JS.x", 1, "denied: subjects under \"$JS\" belong to NATS and Tidegate"),
    ] {
        let printed = explain(&["subscribe", subject, "--token", &of_token], "").await;
        assert_eq!(printed.code, code, "{printed:?}");
        assert!(printed.out.starts_with(first), "{printed:?}");
        client.send(&json!({ "type": "subscribe", "channel": subject })).await;
        client.expect(if code == 0 { "subscribed" } else { "error" }).await;
    }
    let printed = explain(&["publish", "chat.a"], &format!("Bearer {of_token}\n")).await;
    assert_eq!(
        printed.out,
        "allowed\n  rule          allow chat.> of role user\n  user          alice\n  roles         user\n  \
         class         none: it has the defaults (buffer)\n"
    );
    let both = ["--user", "bob", "--role", "user", "--role", "team", "--claim", "teams=[\"red\",\"blue\"]"];
    for (subject, code, lines) in [
        (
            "team.blue.news",
            0,
            "allowed\n  rule          allow team.{teams}.>, which is team.red.> team.blue.> of role team\n",
        ),
        (
            "chat.secret",
            1,
            "denied: it overlaps \"chat.secret\", which is denied\n  rule          deny chat.secret of role team\n",
        ),
        ("prices.A", 0, "allowed\n  rule          allow prices.> of role user\n"),
    ] {
        let printed = explain(&[&["subscribe", subject], &both[..]].concat(), "").await;
        assert_eq!((printed.code, printed.out.starts_with(lines)), (code, true), "{printed:?}");
    }
    let printed = explain(&[&["subscribe", "team.green"], &both[..]].concat(), "").await;
    assert!(printed.out.contains("  rules         allow prices.> of role user\n"), "{printed:?}");
    let printed = explain(&["subscribe", "prices.A", "--role", "user"], "").await;
    assert!(printed.out.ends_with("  class         prices.> (latest, with last values)\n"), "{printed:?}");
}

#[tokio::test]
async fn a_refused_credential_and_wrong_flags_are_named() {
    let folder = std::env::temp_dir().join(format!("tidegate-explain-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    let config = format!(
        "[[auth.key]]\nkid = \"test\"\nsecret = \"{SECRET}\"\n[[role]]\nname = \"user\"\n\
                          subscribe = {{ allow = [\"team.{{team}}\"] }}\n"
    );
    std::fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap();
    for (arguments, code, text) in [
        (&["subscribe", "a", "--token", "a.b.c"][..], 1, "refused: the credential itself is refused: "),
        (&["subscribe", "a..b", "--role", "user"], 64, "error: a..b is not a subject: "),
        (
            &["subscribe", "a", "--role", "usr"],
            64,
            "error: there is no role usr: did you mean \"user\"? the configuration has user",
        ),
        (&["subscribe", "a", "--role", "user"], 64, "error: role user: "),
        (&["subscribe", "a", "--role", "user", "--user", "a b"], 64, "error: no node accepts the user "),
        (&["subscribe", "a"], 64, "error: there is no token: write it as argument or to standard input"),
    ] {
        let printed = tidegate(&[&["explain", "--config", file], arguments].concat(), "").await;
        assert_eq!(printed.code, code, "{arguments:?}: {printed:?}");
        assert!(printed.out.starts_with(text) || printed.err.starts_with(text), "{arguments:?}: {printed:?}");
    }
    let _ = std::fs::remove_dir_all(&folder);
}
