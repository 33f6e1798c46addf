//! The test page of a vocabulary (`do = "console"`): its path, its files and headers, and its use in a browser.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tidegate::config::Config;
use tidegate::config::load;
use tidegate::config::source::Sources;

use crate::support::browser;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::raw::Answer;
use crate::support::raw::ask;

static FILES: AtomicUsize = AtomicUsize::new(0);

/// hoardrun, whose page is at `/ws/test`.
fn hoardrun(config: &mut Config) {
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let name = format!("tidegate-test-page-{}-{number}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, "[[endpoint]]\nvocabulary = \"vocabularies/hoardrun.toml\"\n").unwrap();
    let loaded = load::load(&Sources { file: Some(file.clone()), ..Sources::default() });
    std::fs::remove_file(&file).unwrap();
    config.endpoints = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}")).config.endpoints;
    config.roles =
        vec![role("user", &["user.{sub}.*", "room.*", "room.*.*", "system.announcements"], &[], &[])];
    config.http.console = true;
    // The page connects, and its origin is the address of the node, which is not known yet.
    config.http.allows_loopback_origins = true;
}

async fn get(edge: &TestEdge, path: &str) -> Answer {
    ask(&edge.address(), format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

#[tokio::test]
async fn the_page_and_its_files_share_one_path_and_the_security_policy_of_the_console() {
    let edge = TestEdge::with(hoardrun).await;
    for (path, kind, part) in [
        ("/ws/test", "text/html; charset=utf-8", "&quot;join_room"),
        ("/ws/test?script", "text/javascript; charset=utf-8", "new WebSocket("),
        ("/ws/test?style", "text/css; charset=utf-8", ":root"),
    ] {
        let answer = get(&edge, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert!(answer.body.contains(part), "{}", answer.body);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    }
    let page = get(&edge, "/ws/test").await.body;
    assert!(
        page.contains(r#"<script type="module" src="?script"></script>"#) && !page.contains("{{"),
        "{page}"
    );
}

#[tokio::test]
async fn the_page_is_missing_if_the_console_is_off() {
    let edge = TestEdge::with(|config| {
        hoardrun(config);
        config.http.console = false;
    })
    .await;
    for path in ["/ws/test", "/ws/test?script", "/ws/test?style"] {
        assert_eq!(get(&edge, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_joins_a_room_in_a_browser() {
    let edge = TestEdge::with(hoardrun).await;
    let page = format!("http://{}/ws/test#token={}", edge.address(), token("u1"));
    browser::check("test-page.mjs", [page, edge.nats.url()]).await;
}
