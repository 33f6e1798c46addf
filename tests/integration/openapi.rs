//! docs/openapi.yaml describes what a node does: schemathesis calls every operation with data made from it, valid and
//! invalid, and checks status, headers and body of each answer.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tidegate::config::Config;
use tokio::process::Command;

use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token_with;

/// The check that is left out: a schema does not say which channels a role allows, or which texts are subjects.
const NOT_CHECKED: &str = "positive_data_acceptance";
/// The data of each operation: the same in each run.
const EXAMPLES: &str = "10";
const SEED: &str = "1";

const ADDRESS: &str = "127.0.0.1:0";

/// Calls the operations that `which` selects.
async fn check(url: &str, token: &str, which: [&str; 2]) {
    let root = env!("CARGO_MANIFEST_DIR");
    let setup = Command::new(format!("{root}/tests/setup.sh")).args(["--python", "openapi"]).output();
    let setup = setup.await.unwrap();
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
    let python = String::from_utf8(setup.stdout).unwrap();
    let output = Command::new(Path::new(python.trim()).with_file_name("schemathesis"))
        .args(["--no-color", "run"])
        .arg(format!("{root}/docs/openapi.yaml"))
        .args([
            "--url",
            url,
            "--checks",
            "all",
            "--exclude-checks",
            NOT_CHECKED,
            "--max-examples",
            EXAMPLES,
            "--seed",
            SEED,
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--warnings", "off"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(which)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", text.concat());
}

#[tokio::test]
async fn answers_are_those_of_the_openapi_document() {
    let edge = TestEdge::with(|config: &mut Config| {
        config.admin.listen = Some(ADDRESS.parse().unwrap());
        let mut backend = role("backend", &["chat.>"], &["chat.>"], &[]);
        (backend.control, backend.admin) = (true, true);
        config.roles.push(backend);
        // It sends hundreds of calls in a second.
        (config.limits.calls_per_s, config.limits.address_calls_per_s) = (0, 0);
        (config.limits.handshakes_per_s, config.limits.address_handshakes_per_s) = (1_000_000, 0);
    })
    .await;
    let backend = token_with(&json!({ "sub": "shop", "role": "backend" }));
    let _connected = edge.client("alice").await;
    check(&format!("http://{}", edge.address()), &backend, ["--exclude-tag", "admin"]).await;
    let admin = edge.app.admin_address.as_ref().unwrap();
    check(&format!("http://{admin}"), &backend, ["--include-tag", "admin"]).await;
}
