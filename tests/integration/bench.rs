//! `tidegate bench` with sizes that take a moment: every workload runs against the real servers, and counts exactly.

use serde_json::Value;
use tokio::process::Command;

use crate::support::nats_server;

/// Runs a workload; what it says, and what it writes.
async fn bench(arguments: &str) -> (bool, String, Value) {
    let name = arguments.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let file = std::env::temp_dir().join(format!("tidegate-test-bench-{}-{name}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("bench")
        .args(arguments.split(' '))
        .args(["--rounds", "1", "--warm-up", "0.1", "--json"])
        .arg(&file)
        .env("TIDEGATE_NATS_SERVER", nats_server::program())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let outgoing = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}:\n{said}"));
    std::fs::remove_file(&file).unwrap();
    (output.status.success(), said, serde_json::from_str(&outgoing).unwrap())
}

/// The figures of one workload, by target.
async fn figures(arguments: &str, targets: &[&str]) -> Vec<Value> {
    let (success, said, outgoing) = bench(arguments).await;
    assert!(success, "{said}");
    let results = outgoing["works"][0]["targets"].as_array().unwrap();
    let names: Vec<_> = results.iter().map(|result| result["target"].as_str().unwrap()).collect();
    assert_eq!(names, targets, "{said}");
    results.iter().map(|result| result["figures"].clone()).collect()
}

fn value(figures: &Value, name: &str) -> f64 {
    figures[name]["median"].as_f64().unwrap_or_else(|| panic!("there is no {name} in {figures}"))
}

const ALL: [&str; 3] = ["tidegate", "nats-server", "floor"];

#[tokio::test]
async fn fanout_counts_what_everybody_has() {
    for how in ["--window 4", "--rate 200"] {
        let arguments = format!("fanout --sockets 20 {how} --seconds 0.3 --peer --floor");
        for figures in figures(&arguments, &ALL).await {
            let received = value(&figures, "received");
            assert!(received > 0.0 && received % 20.0 == 0.0, "{how}: {figures}");
            assert!(value(&figures, "cpu_us") > 0.0 && value(&figures, "wire_bytes") > 200.0, "{figures}");
            assert!(value(&figures, "p50_ms") <= value(&figures, "max_ms"), "{figures}");
        }
    }
}

#[tokio::test]
async fn market_counts_what_each_subject_has() {
    let arguments =
        "market --sockets 10 --subjects 20 --per-socket 4 --window 8 --seconds 0.3 --peer --floor";
    for figures in figures(arguments, &ALL).await {
        // Each subject has two listeners.
        let received = value(&figures, "received");
        assert!(received > 0.0 && received % 2.0 == 0.0, "{figures}");
    }
}

#[tokio::test]
async fn a_market_may_be_shown_in_any_vocabulary() {
    let shipped = |name: &str| format!("{}/vocabularies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(shipped("stock-agent")).unwrap();
    let fields = "bid = \"{data.bid0}\", ask = \"{data.ask0}\", n = \"{data.n}\"";
    let file = std::env::temp_dir().join(format!("fields-{}.toml", std::process::id()));
    std::fs::write(&file, text.replace("data = \"{data}\"", fields)).unwrap();
    let fields = file.file_stem().unwrap().to_str().unwrap();
    for (file, name) in [
        (String::new(), "stock-agent"),
        (format!(" {}", shipped("graphql-ws")), "graphql-ws"),
        (format!(" {}", file.display()), fields),
    ] {
        let arguments = format!(
            "market --sockets 10 --subjects 20 --per-socket 4 --window 8 --seconds 0.3 --vocabulary{file}"
        );
        for figures in figures(&arguments, &["tidegate", name]).await {
            let received = value(&figures, "received");
            assert!(received > 0.0 && received % 2.0 == 0.0, "{name}: {figures}");
        }
    }
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn a_market_may_be_given_the_newest_alone() {
    let arguments =
        "market --sockets 5 --subjects 2 --per-socket 2 --rate 500 --max-rate-ms 50 --seconds 0.5";
    let figures = figures(arguments, &["tidegate"]).await;
    let sent = 500.0 * 0.6 * 5.0;
    assert!((1.0..sent).contains(&value(&figures[0], "received")), "{}", figures[0]);
}

#[tokio::test]
async fn private_counts_one_delivery_a_publication() {
    for figures in figures("private --sockets 20 --window 8 --seconds 0.3 --peer --floor", &ALL).await {
        assert!(value(&figures, "received") > 0.0 && value(&figures, "deliveries_per_s") > 0.0, "{figures}");
    }
}

#[tokio::test]
async fn idle_tells_all_in_the_end() {
    for how in ["", " --private"] {
        for figures in figures(&format!("idle --sockets 20 --seconds 0.1 --peer --floor{how}"), &ALL).await {
            assert_eq!(value(&figures, "received"), 20.0, "{how}: {figures}");
            assert!(figures["socket_bytes"]["median"].is_number(), "{figures}");
        }
    }
}

#[tokio::test]
async fn connections_are_counted() {
    for how in ["", " --same-token"] {
        let arguments = format!("connect --at-once 4 --seconds 0.3 --peer --floor{how}");
        for figures in figures(&arguments, &ALL).await {
            assert!(value(&figures, "connections") > 0.0 && value(&figures, "cpu_us") > 0.0, "{figures}");
            assert_eq!(value(&figures, "failed"), 0.0, "{how}: {figures}");
        }
    }
}

#[tokio::test]
async fn after_a_storm_all_are_back() {
    for figures in figures("storm --sockets 20 --peer --floor", &ALL).await {
        assert_eq!(value(&figures, "connections"), 20.0, "{figures}");
    }
}

#[tokio::test]
async fn after_a_storm_all_have_all_their_channels() {
    let (success, said, outgoing) = bench("storm --sockets 20 --channels 50 --check").await;
    assert!(success, "{said}");
    assert_eq!(value(&outgoing["works"][0]["targets"][0]["figures"], "connections"), 20.0, "{said}");
}

#[tokio::test]
async fn good_clients_are_counted_while_others_attack() {
    for attack in ["sockets", "last"] {
        let arguments = format!("abuse --attack {attack} --sockets 5 --rate 100 --seconds 0.3");
        let figures = figures(&arguments, &["tidegate"]).await;
        for name in ["received", "p99_ms", "control_p99_ms", "ratio", "memory_mib"] {
            assert!(value(&figures[0], name) > 0.0, "{attack}, {name}: {}", figures[0]);
        }
        assert_eq!(value(&figures[0], "missing"), 0.0, "{attack}: {}", figures[0]);
    }
}

#[tokio::test]
async fn churn_leaves_no_subscription_behind() {
    for figures in figures("churn --sockets 5 --rate 200 --seconds 0.3 --peer", &ALL[..2]).await {
        assert!(value(&figures, "commands") > 0.0, "{figures}");
        assert_eq!(value(&figures, "subscriptions_left"), 0.0, "{figures}");
    }
}

#[tokio::test]
async fn a_restart_is_told_to_all() {
    let arguments = "restart --sockets 20 --rate 100 --away 0.3 --seconds 0.3";
    let figures = figures(arguments, &["tidegate"]).await;
    for name in ["told", "stayed", "current"] {
        assert_eq!(value(&figures[0], name), 20.0, "{name}: {}", figures[0]);
    }
    assert_eq!(value(&figures[0], "silent"), 0.0, "{}", figures[0]);
}

#[tokio::test]
async fn a_reader_that_stops_is_cut() {
    let arguments = "slow --sockets 6 --flooded 2 --megabytes 20 --seconds 0.5 --write-timeout 3 --outbox 1 --growth 1000";
    let (success, said, outgoing) = bench(arguments).await;
    assert!(success, "{said}");
    let expectations = outgoing["expectations"].as_array().unwrap();
    // How much the others take in time is up to the machine.
    for what in ["the calm channel is complete for all", "the reader that stopped was cut"] {
        let found: Vec<_> =
            expectations.iter().filter(|one| one["what"].as_str().unwrap().ends_with(what)).collect();
        assert!(found.len() == 2 && found.iter().all(|one| one["holds"] == true), "{what}: {said}");
    }
}

#[tokio::test]
async fn several_builds_take_turns() {
    let program = env!("CARGO_BIN_EXE_tidegate");
    let arguments = format!("fanout --sockets 5 --seconds 0.1 --tidegate {program} --tidegate {program}");
    let figures = figures(&arguments, &["tidegate", "tidegate-2"]).await;
    assert!(figures.iter().all(|figures| value(figures, "received") > 0.0), "{figures:?}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_said_in_words() {
    for (arguments, words) in [
        (&["nothing"][..], "there is no workload `nothing`"),
        (&["fanout", "--nats-server", "/nowhere/nats-server"], "nats/get-nats-server.sh"),
        (&["fanout", "--tidegate", "/nowhere/tidegate"], "there is no /nowhere/tidegate"),
        (&["storm", "--sockets", "2000000000"], "open files"),
        (&["fanout", "--seconds", "0"], "--seconds"),
        (&["fanout", "--compress", "--peer"], "leave out --peer or --compress"),
        (&["market", "--vocabulary", "/nowhere/quotes.toml"], "cannot read /nowhere/quotes.toml"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("bench")
            .args(arguments)
            .env("TIDEGATE_NATS_SERVER", nats_server::program())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{arguments:?}: {said}");
    }
}
