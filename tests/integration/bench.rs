//! `tidegate bench` with small sizes: every workload runs against real servers, and its counts are exact.

use serde_json::Value;
use tokio::process::Command;

use crate::support::nats_server;

/// Runs a workload. Returns whether it succeeded, its output, and the JSON that it wrote.
async fn bench(arguments: &str) -> (bool, String, Value) {
    let name = arguments.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let file = std::env::temp_dir().join(format!("tidegate-test-bench-{}-{name}.json", std::process::id()));
    let finished = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("bench")
        .args(arguments.split(' '))
        .args(["--rounds", "1", "--warm-up", "0.1", "--json"])
        .arg(&file)
        .env("TIDEGATE_NATS_SERVER", nats_server::program())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let output =
        String::from_utf8_lossy(&finished.stdout).into_owned() + &String::from_utf8_lossy(&finished.stderr);
    let json = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}:\n{output}"));
    std::fs::remove_file(&file).unwrap();
    (finished.status.success(), output, serde_json::from_str(&json).unwrap())
}

/// The metrics of one workload, one value per target.
async fn metrics(arguments: &str, targets: &[&str]) -> Vec<Value> {
    let (success, output, json) = bench(arguments).await;
    assert!(success, "{output}");
    let results = json["workloads"][0]["targets"].as_array().unwrap();
    let names: Vec<_> = results.iter().map(|result| result["target"].as_str().unwrap()).collect();
    assert_eq!(names, targets, "{output}");
    results.iter().map(|result| result["metrics"].clone()).collect()
}

fn value(metrics: &Value, name: &str) -> f64 {
    metrics[name]["median"].as_f64().unwrap_or_else(|| panic!("there is no {name} in {metrics}"))
}

const ALL: [&str; 3] = ["tidegate", "nats-server", "baseline"];

#[tokio::test]
async fn fanout_counts_deliveries_to_all_sockets() {
    for how in ["--window 4", "--rate 200"] {
        let arguments = format!("fanout --sockets 20 {how} --seconds 0.3 --peer --baseline");
        for metrics in metrics(&arguments, &ALL).await {
            let received = value(&metrics, "received");
            assert!(received > 0.0 && received % 20.0 == 0.0, "{how}: {metrics}");
            assert!(value(&metrics, "cpu_us") > 0.0 && value(&metrics, "wire_bytes") > 200.0, "{metrics}");
            assert!(value(&metrics, "p50_ms") <= value(&metrics, "max_ms"), "{metrics}");
        }
    }
}

#[tokio::test]
async fn market_counts_deliveries_to_the_subscribers_of_each_subject() {
    let arguments =
        "market --sockets 10 --subjects 20 --per-socket 4 --window 8 --seconds 0.3 --peer --baseline";
    for metrics in metrics(arguments, &ALL).await {
        // Each subject has two subscribers.
        let received = value(&metrics, "received");
        assert!(received > 0.0 && received % 2.0 == 0.0, "{metrics}");
    }
}

#[tokio::test]
async fn market_can_be_measured_through_any_vocabulary() {
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
        for metrics in metrics(&arguments, &["tidegate", name]).await {
            let received = value(&metrics, "received");
            assert!(received > 0.0 && received % 2.0 == 0.0, "{name}: {metrics}");
        }
    }
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn market_with_max_rate_ms_delivers_only_the_newest() {
    let arguments =
        "market --sockets 5 --subjects 2 --per-socket 2 --rate 500 --max-rate-ms 50 --seconds 0.5";
    let metrics = metrics(arguments, &["tidegate"]).await;
    let sent = 500.0 * 0.6 * 5.0;
    assert!((1.0..sent).contains(&value(&metrics[0], "received")), "{}", metrics[0]);
}

#[tokio::test]
async fn private_counts_one_delivery_per_publication() {
    for metrics in metrics("private --sockets 20 --window 8 --seconds 0.3 --peer --baseline", &ALL).await {
        assert!(value(&metrics, "received") > 0.0 && value(&metrics, "deliveries_per_s") > 0.0, "{metrics}");
    }
}

#[tokio::test]
async fn lone_measures_both_lanes_and_counts_the_context_switches_of_the_servers() {
    let targets = ["tidegate", "tidegate-own", "nats-server"];
    for metrics in metrics("lone --sockets 10 --rate 100 --seconds 0.3 --peer", &targets).await {
        assert!(value(&metrics, "received") > 0.0, "{metrics}");
        let shares = value(&metrics, "nats_switches") + value(&metrics, "front_switches");
        assert!(shares > 0.0 && (shares - value(&metrics, "switches")).abs() < 1e-9, "{metrics}");
    }
}

#[tokio::test]
async fn idle_sockets_on_several_nodes_all_receive_a_publication_in_the_end() {
    for how in ["", " --private"] {
        let arguments = format!("idle --sockets 21 --processes 3 --seconds 0.1{how} --peer --baseline");
        let metrics = metrics(&arguments, &["tidegate"]).await;
        assert_eq!(value(&metrics[0], "received"), 21.0, "{how}: {}", metrics[0]);
        assert_eq!(value(&metrics[0], "connected"), 21.0, "{how}: {}", metrics[0]);
    }
}

#[tokio::test]
async fn pings_to_the_clients_of_all_nodes_are_counted() {
    for how in ["", " --private"] {
        let arguments = format!("heartbeats --sockets 6 --processes 2 --interval 1{how} --check");
        let (success, output, json) = bench(&arguments).await;
        assert!(success && output.contains("\nno goal for these parameters: heartbeats"), "{output}");
        let metrics = &json["workloads"][0]["targets"][0]["metrics"];
        assert_eq!(value(metrics, "connected"), 6.0, "{metrics}");
        assert!(value(metrics, "pings") > 0.0 && value(metrics, "ping_us") > 0.0, "{metrics}");
    }
}

#[tokio::test]
async fn idle_sockets_all_receive_a_publication_in_the_end() {
    for how in ["", " --private"] {
        for metrics in metrics(&format!("idle --sockets 20 --seconds 0.1 --peer --baseline{how}"), &ALL).await
        {
            assert_eq!(value(&metrics, "received"), 20.0, "{how}: {metrics}");
            assert!(metrics["socket_bytes"]["median"].is_number(), "{metrics}");
        }
    }
}

#[tokio::test]
async fn connections_are_counted() {
    for how in ["", " --same-token"] {
        let arguments = format!("connect --at-once 4 --seconds 0.3 --peer --baseline{how}");
        for metrics in metrics(&arguments, &ALL).await {
            assert!(value(&metrics, "connections") > 0.0 && value(&metrics, "cpu_us") > 0.0, "{metrics}");
            assert_eq!(value(&metrics, "failed"), 0.0, "{how}: {metrics}");
        }
    }
}

#[tokio::test]
async fn over_tls_everything_arrives_from_both_servers() {
    let targets = &ALL[..2];
    let encrypted =
        metrics("fanout --tls --sockets 20 --window 4 --seconds 0.3 --peer --baseline", targets).await;
    let plain = metrics("fanout --sockets 20 --window 4 --seconds 0.3 --peer", targets).await;
    for (encrypted, plain) in encrypted.iter().zip(&plain) {
        let received = value(encrypted, "received");
        assert!(received > 0.0 && received % 20.0 == 0.0, "{encrypted}");
        let bytes = [encrypted, plain].map(|metrics| value(metrics, "wire_bytes"));
        assert!(bytes[0] > bytes[1], "the clients did not use TLS: {bytes:?}");
    }
    for metrics in metrics("idle --tls --sockets 20 --seconds 0.1 --peer", targets).await {
        assert_eq!(value(&metrics, "received"), 20.0, "{metrics}");
    }
    for metrics in metrics("connect --tls --at-once 4 --seconds 0.3 --peer", targets).await {
        assert!(value(&metrics, "connections") > 0.0, "{metrics}");
        assert_eq!(value(&metrics, "failed"), 0.0, "{metrics}");
    }
}

#[tokio::test]
async fn after_a_storm_all_sockets_have_reconnected() {
    for metrics in metrics("storm --sockets 20 --peer --baseline", &ALL).await {
        assert_eq!((value(&metrics, "connections"), value(&metrics, "failed")), (20.0, 0.0), "{metrics}");
    }
}

#[tokio::test]
async fn after_a_storm_all_sockets_have_all_their_channels() {
    let (success, output, json) = bench("storm --sockets 20 --channels 50 --check").await;
    assert!(success, "{output}");
    assert_eq!(value(&json["workloads"][0]["targets"][0]["metrics"], "connections"), 20.0, "{output}");
}

#[tokio::test]
async fn well_behaved_clients_are_measured_during_an_attack() {
    for attack in ["sockets", "last", "mix"] {
        let arguments = format!("abuse --attack {attack} --attackers 2 --sockets 5 --rate 100 --seconds 0.3");
        let metrics = metrics(&arguments, &["tidegate"]).await;
        for name in ["received", "p99_ms", "control_p99_ms", "ratio", "memory_mib"] {
            assert!(value(&metrics[0], name) > 0.0, "{attack}, {name}: {}", metrics[0]);
        }
        assert_eq!(value(&metrics[0], "missing"), 0.0, "{attack}: {}", metrics[0]);
    }
}

#[tokio::test]
async fn churn_leaves_no_subscription_behind() {
    for metrics in metrics("churn --sockets 5 --rate 200 --seconds 0.3 --peer", &ALL[..2]).await {
        assert!(value(&metrics, "commands") > 0.0, "{metrics}");
        assert_eq!(value(&metrics, "subscriptions_left"), 0.0, "{metrics}");
    }
}

#[tokio::test]
async fn all_clients_receive_a_gap_for_a_restart() {
    let arguments = "restart --sockets 20 --rate 100 --away 0.3 --seconds 0.3";
    let metrics = metrics(arguments, &["tidegate"]).await;
    for name in ["received_gap", "stayed_connected", "have_last"] {
        assert_eq!(value(&metrics[0], name), 20.0, "{name}: {}", metrics[0]);
    }
    assert_eq!(value(&metrics[0], "missed_silently"), 0.0, "{}", metrics[0]);
}

#[tokio::test]
async fn a_reader_that_stops_is_disconnected() {
    let arguments = "slow --sockets 6 --flooded 2 --megabytes 20 --seconds 0.5 --write-timeout 8 --outbox 1 --growth 1000";
    let (success, output, json) = bench(arguments).await;
    assert!(success, "{output}");
    let expectations = json["expectations"].as_array().unwrap();
    // How much the other readers receive in time depends on the machine.
    for what in ["all clients of the calm channel receive all of it", "the stopped reader was disconnected"] {
        let found: Vec<_> =
            expectations.iter().filter(|one| one["what"].as_str().unwrap().ends_with(what)).collect();
        assert!(found.len() == 2 && found.iter().all(|one| one["holds"] == true), "{what}: {output}");
    }
}

#[tokio::test]
async fn several_builds_take_turns() {
    let program = env!("CARGO_BIN_EXE_tidegate");
    let arguments = format!("fanout --sockets 5 --seconds 0.1 --tidegate {program} --tidegate {program}");
    let metrics = metrics(&arguments, &["tidegate", "tidegate-2"]).await;
    assert!(metrics.iter().all(|metrics| value(metrics, "received") > 0.0), "{metrics:?}");
}

#[tokio::test]
async fn errors_explain_the_mistake() {
    for (arguments, expected) in [
        (&["nothing"][..], "there is no workload `nothing`"),
        (&["fanout", "--nats-server", "/nowhere/nats-server"], "nats/get-nats-server.sh"),
        (&["fanout", "--tidegate", "/nowhere/tidegate"], "there is no program /nowhere/tidegate"),
        (&["storm", "--sockets", "2000000000"], "open files"),
        (&["fanout", "--seconds", "0"], "--seconds"),
        (&["fanout", "--floor"], "--floor is now called --baseline"),
        (&["fanout", "--compress", "--peer"], "leave out --peer or --compress"),
        (&["all", "--tls"], "leave out --tls"),
        (&["market", "--vocabulary", "/nowhere/quotes.toml"], "cannot read /nowhere/quotes.toml"),
    ] {
        let finished = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("bench")
            .args(arguments)
            .env("TIDEGATE_NATS_SERVER", nats_server::program())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let output = String::from_utf8_lossy(&finished.stderr);
        assert!(!finished.status.success() && output.contains(expected), "{arguments:?}: {output}");
    }
}
