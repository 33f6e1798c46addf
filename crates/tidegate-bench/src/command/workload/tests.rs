//! Tests that arguments become the workloads that they describe, or an error that says what is wrong with them.

use super::*;
use clap::Parser;

use crate::tls::Transport;

#[derive(Debug, Parser)]
struct TestCli {
    #[command(subcommand)]
    workload: WorkloadArgs,
}

fn entries(line: &str) -> anyhow::Result<Vec<Entry>> {
    let arguments = ["bench"].into_iter().chain(line.split(' '));
    TestCli::try_parse_from(arguments)?.workload.entries()
}

fn heartbeats(sockets: usize, processes: usize, interval_s: u64) -> Workload {
    Workload::Heartbeats(Heartbeats { sockets, processes, private: false, interval_s })
}

#[test]
fn arguments_become_workloads() {
    let private = Heartbeats { sockets: 10_000, processes: 1, private: true, interval_s: 25 };
    for (line, expected) in [
        ("fanout", Workload::Messages(suite::fanout(1000, Pacing::Window(64)))),
        ("fanout --sockets 20 --window 1", Workload::Messages(suite::fanout(20, Pacing::Window(1)))),
        ("market --rate 200", Workload::Messages(suite::market(500, 1000, 10, Pacing::Rate(200.0)))),
        ("private --sockets 7", Workload::Messages(suite::private(7, Pacing::Window(64)))),
        ("lone --rate 100", Workload::Messages(suite::lone(200, 100.0))),
        ("storm --sockets 3", Workload::Storm(Storm { sockets: 3, channels: 1 })),
        ("connect --same-token", Workload::Connect(Connect { at_once: 64, same_token: true })),
        ("heartbeats", heartbeats(10_000, 1, 25)),
        ("heartbeats --interval 5", heartbeats(10_000, 1, 5)),
        ("heartbeats --private", Workload::Heartbeats(private)),
        ("heartbeats --sockets 100000 --processes 6", heartbeats(100_000, 6, 25)),
        ("restart", Workload::Restart(suite::restart())),
    ] {
        let entries = entries(line).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].workload, expected, "{line}");
    }
    assert_eq!(entries("slow").unwrap().len(), 2);
    assert_eq!(entries("abuse").unwrap().len(), Attack::ALL.len());
    assert_eq!(entries("abuse --attack last").unwrap()[0].name, "abuse-last");
    let pattern = entries("private --feed pattern").unwrap();
    assert!(matches!(&pattern[0].workload, Workload::Messages(workload) if workload.feed == "pattern"));
}

#[test]
fn a_workload_that_is_in_the_suite_has_its_name_there() {
    assert_eq!(entries("fanout --window 1").unwrap()[0].name, "fanout-1");
    assert_eq!(entries("fanout --window 2").unwrap()[0].name, "fanout");
    assert_eq!(entries("idle --private").unwrap()[0].name, "idle-private");
    let growth = entries("all --only sockets --only market").unwrap();
    assert_eq!(growth.len(), suite::GROWTH.len() + 1);
}

#[test]
fn workloads_over_tls_have_the_names_of_those_without_and_the_ending_tls() {
    let over_tls = |line: &str| {
        let arguments = ["bench"].into_iter().chain(line.split(' '));
        TestCli::try_parse_from(arguments).unwrap().workload.entries_over_tls()
    };
    let in_suite = suite::all();
    for (line, name, is_in_suite) in [
        ("fanout", "fanout-64-tls", true),
        ("idle", "idle-shared-tls", true),
        ("fanout --sockets 20", "fanout-tls", false),
        ("connect", "connect-tls", false),
    ] {
        let entries = over_tls(line).unwrap();
        assert_eq!((entries[0].name.as_str(), entries[0].transport), (name, Transport::Tls));
        let mut same = in_suite.iter().filter(|entry| entry.name == name);
        assert_eq!(same.any(|entry| entry.workload == entries[0].workload), is_in_suite, "{line}");
    }
    for (line, words) in [("all", "leave out --tls"), ("abuse", "attackers"), ("fanout --rate 0", "--rate")] {
        let error = over_tls(line).unwrap_err().to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn lone_measures_both_lanes_unless_one_is_named() {
    let lanes = |line: &str| {
        let arguments = ["bench"].into_iter().chain(line.split(' '));
        TestCli::try_parse_from(arguments).unwrap().workload.lanes()
    };
    assert_eq!(lanes("lone"), [Lane::Hash, Lane::Own]);
    assert_eq!(lanes("lone --lane own"), [Lane::Own]);
    assert_eq!(lanes("lone --lane hash"), [Lane::Hash]);
    assert_eq!(lanes("private"), [Lane::Hash]);
}

#[test]
fn invalid_arguments_are_rejected_with_a_clear_error() {
    for (line, words) in [
        ("nothing", "there is no workload `nothing`: choose from all, fanout"),
        ("fanout --sockets 0", "--sockets, --subjects, --per-socket and --window must be at least 1"),
        ("market --subjects 5", "--per-socket at most --subjects"),
        ("fanout --rate 0", "--rate must be greater than 0"),
        ("fanout --window 0", "--window must be at least 1"),
        ("lone --rate 0", "--rate must be greater than 0"),
        ("slow --sockets 4", "--sockets must be at least 5"),
        ("storm --channels 0", "--channels must be at least 1"),
        ("abuse --attack nix", "there is no attack `nix`: choose from groups, lists"),
        ("heartbeats --interval 0", "--interval must be from 1 to 300"),
        ("heartbeats --sockets 0", "--sockets must be at least 1"),
        ("heartbeats --processes 0", "--processes must be at least 1"),
        ("idle --sockets 2 --processes 3", "--sockets must be at least 3"),
        ("connect --at-once 0", "--at-once must be at least 1"),
        ("all --only nix", "--only matches no workload of `all`: choose from fanout-64"),
        ("market --max-rate-ms 100", "--rate"),
        ("fanout --rate 5 --window 5", "cannot be used with"),
    ] {
        let error = entries(line).unwrap_err().to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
}
