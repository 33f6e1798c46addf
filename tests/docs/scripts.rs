//! Checks of CAPACITY.md and SCALE.md: their scripts print what the pages show, and agree with the measured runs and with
//! the code.

use std::fs;
use std::process::Command;
use std::process::Output;

use crate::read;
use crate::root;
use crate::section;

const PAGES: [&str; 2] = ["docs/CAPACITY.md", "docs/SCALE.md"];

/// Runs a script in the repository's folder.
fn python(arguments: &[&str]) -> Output {
    // Without this, Python leaves compiled files next to the scripts.
    let output = Command::new("python3").arg("-B").args(arguments).current_dir(root()).output();
    output.expect("python3 was not found: run `make test`, which explains what to install")
}

/// The standard output of a script that succeeds.
fn printed(arguments: &[&str]) -> String {
    let output = python(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands of a page with the output that it shows.
fn shown(page: &str) -> Vec<(String, String)> {
    let text = read(page);
    let blocks =
        text.split("```console\n$ ").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    blocks.map(|block| block.split_once('\n').expect("a command and its output")).map(owned).collect()
}

fn owned((command, output): (&str, &str)) -> (String, String) {
    (command.to_owned(), output.to_owned())
}

#[test]
fn the_pages_about_scale_show_what_their_scripts_print() {
    let picture = std::env::temp_dir().join(format!("tidegate-storm-{}.svg", std::process::id()));
    let mut count = 0;
    for (command, expected) in PAGES.into_iter().flat_map(shown) {
        let mut arguments: Vec<_> = command.split(' ').collect();
        let drawn = arguments.iter().position(|argument| *argument == "--svg").map(|at| at + 1);
        let committed = drawn.map(|at| std::mem::replace(&mut arguments[at], picture.to_str().unwrap()));
        assert_eq!(
            printed(&arguments).trim_end(),
            expected.trim_end(),
            "the page has another output of {command}"
        );
        if let Some(committed) = committed {
            let drawing = fs::read_to_string(&picture).unwrap();
            fs::remove_file(&picture).unwrap();
            assert!(drawing == read(committed), "{committed} is not what {command} draws");
        }
        count += 1;
    }
    assert!(count >= 8, "{count} commands");
    let costs = printed(&["docs/capacity/capacity.py", "--costs"]);
    assert!(read("docs/CAPACITY.md").contains(&costs), "the page has other costs than `capacity.py --costs`");
}

#[test]
fn an_answer_that_is_far_from_the_measured_one_fails_the_check() {
    let folder = std::env::temp_dir().join(format!("tidegate-capacity-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let script = folder.join("capacity.py");
    fs::copy(root().join("docs/capacity/capacity.py"), &script).unwrap();
    let strict = read("docs/capacity/measured.toml").replace("factor = 1.25", "factor = 1.01");
    fs::write(folder.join("measured.toml"), strict).unwrap();
    let output = python(&[script.to_str().unwrap(), "--check"]);
    fs::remove_dir_all(&folder).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("more than the factor of 1.01"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_measured_runs_name_workloads_and_commands_of_the_bench() {
    let measured: toml::Table = read("docs/capacity/measured.toml").parse().unwrap();
    let results: serde_json::Value = serde_json::from_str(&read("docs/benchmarks/results.json")).unwrap();
    let workloads = results["workloads"].as_array().unwrap();
    let runs = measured["run"].as_array().unwrap();
    let named: Vec<_> = runs.iter().filter_map(|run| run.get("workload")).collect();
    assert!(named.len() > 10 && runs.len() > named.len());
    for name in named {
        let name = name.as_str().unwrap();
        assert!(workloads.iter().any(|workload| workload["name"] == name), "there is no workload {name}");
    }
    for bench in runs.iter().filter_map(|run| run.get("bench")) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        program.arg("bench").args(bench.as_str().unwrap().split(' ')).arg("--help");
        let output = program.output().unwrap();
        assert!(output.status.success(), "{bench:?}: {output:?}");
    }
}

#[test]
fn a_storm_depends_on_its_seed_alone() {
    let storm =
        |seed| printed(&["docs/scale/storm.py", "--clients", "3000", "--rate", "500", "--seed", seed]);
    let line = |output: String| output.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(storm("7"), storm("7"));
    assert_ne!(line(storm("7")), line(storm("8")));
}

#[test]
fn the_scripts_have_the_limits_of_the_code() {
    let (config, storm) = (read("config.toml"), read("docs/scale/storm.py"));
    for (key, field) in [
        ("handshakes_per_s = 5000", "rate: int = 5000"),
        ("handshakes_burst = 1000", "burst: int = 1000"),
        ("handshake_wait_ms = 1000", "wait: float = 1.0"),
    ] {
        assert!(config.contains(&format!("\n{key}\n")) && storm.contains(field), "{key}, {field}");
    }
    let admission = read("src/node/admission.rs");
    assert!(admission.contains("MAX_RETRY_AFTER: Duration = Duration::from_secs(60)"));
    assert!(storm.contains("MAX_RETRY_AFTER = 60.0"));
    assert!(
        read("src/net/listen.rs").contains("BACKLOG: u32 = 4096;") && storm.contains("backlog: int = 4096")
    );
    let (budget, capacity) = (read("src/app/descriptors.rs"), read("docs/capacity/capacity.py"));
    let names = "EXTRA_SOCKETS, MAX_BUSY_REPLIES, PER_NODE, PER_SHARD = 1024, 256, 32, 12";
    assert!(capacity.contains(names));
    for (name, value) in
        [("EXTRA_SOCKETS", 1024), ("MAX_BUSY_REPLIES", 256), ("PER_NODE", 32), ("PER_SHARD", 12)]
    {
        assert!(budget.contains(&format!("const {name}: usize = {value};")), "{name}");
    }
}

#[test]
fn the_pages_about_scale_name_keys_that_exist() {
    let config = read("config.toml");
    let mut count = 0;
    for page in PAGES {
        let text = read(page);
        for word in text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace) {
            let Some((group, key)) = word.trim_matches(',').split_once('.') else { continue };
            if !["limits", "server", "nats"].contains(&group) {
                continue;
            }
            let group = config.split(&format!("\n[{group}]\n")).nth(1).expect("the section");
            let group = group.split("\n[").next().unwrap_or_default();
            let known =
                group.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = ")));
            assert!(known, "{page} names {word}, which config.toml does not have");
            count += 1;
        }
    }
    assert!(count > 15, "{count} keys");
}

/// Where Linux has no such file, as in a container without the module for connection tracking, there is nothing to check.
#[cfg(target_os = "linux")]
#[test]
fn the_settings_of_the_kernel_that_the_pages_name_exist() {
    let settings = read("docs/CAPACITY.md");
    let settings = section(&settings, "Settings");
    let names = settings.split('`').skip(1).step_by(2).filter(|word| {
        let group = word.split('.').next().unwrap_or_default();
        ["fs", "net"].contains(&group) && word.contains('.')
    });
    let names: Vec<_> = names.filter(|name| !name.starts_with("net.netfilter.")).collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // A container may see only its own network's settings.
        let is_hidden = name.starts_with("net.core.") && !fs::exists("/proc/sys/net/core/wmem_max").unwrap();
        assert!(is_hidden || fs::exists(&path).unwrap(), "there is no {path}");
    }
}

#[test]
fn the_measurement_of_interest_can_be_run() {
    let help = printed(&["docs/scale/interest.py", "--help"]);
    assert!(help.contains("--subjects"), "{help}");
}
