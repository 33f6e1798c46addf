//! The simulation: shards, lanes, sessions and outboxes on a model of NATS, in an order that a seed decides, on one
//! thread and in virtual time. A ledger checks what clients receive.
//!
//! `TIDEGATE_SIMULATION_SEEDS` sets the number of seeds, `TIDEGATE_SIMULATION_SEED` the first, and
//! `TIDEGATE_SIMULATION_STEPS` the actions of each: `make simulate SEEDS=100000`.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    reason = "a test ends where it fails, and a panic in a run is a violation"
)]
#![expect(clippy::disallowed_methods, reason = "the environment sets the number of seeds")]
#![expect(clippy::print_stdout, reason = "the tests print what they have run")]

mod action;
mod checks;
mod client;
mod counts;
mod ledger;
mod nats;
mod node;
mod run;
mod setup;
mod world;

use std::fs;
use std::path::Path;
use std::time::Instant;

use tidegate::hooks::Bug;

use crate::counts::RunCounts;
use crate::run::actions;
use crate::run::carry_out;
use crate::run::carry_out_and_show;
use crate::run::read_script;
use crate::run::run_seed;
use crate::run::runtime;
use crate::setup::Setup;
use crate::world::Show;

/// The actions of a seed in `make test`.
const STEPS: usize = 250;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn no_seed_breaks_a_rule() {
    let (seeds, first) = (number("TIDEGATE_SIMULATION_SEEDS", 1000), number("TIDEGATE_SIMULATION_SEED", 0));
    let steps = usize::try_from(number("TIDEGATE_SIMULATION_STEPS", STEPS as u64)).unwrap();
    let (runtime, began, mut counts) = (runtime(), Instant::now(), RunCounts::default());
    for seed in first..first + seeds {
        match run_seed(seed, steps, None, &runtime) {
            Ok(of_seed) => counts.add(&of_seed),
            Err(failure) => {
                println!("seed {seed}: {:?}", failure.violation);
                let failure = failure.shrink(None, &runtime);
                panic!("seed {seed} breaks a rule. The script:\n\n{}", failure.script());
            }
        }
    }
    println!("{counts}\n{:.1} s", began.elapsed().as_secs_f64());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let runtime = runtime();
    for seed in 0..20 {
        let actions = actions(seed, STEPS);
        let run = || carry_out(seed, &actions, None, &runtime).map(|counts| counts.to_string());
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// `TIDEGATE_SIMULATION_SCRIPT=file cargo test --test simulation -- --nocapture shown`
#[test]
fn a_script_is_shown() {
    let Ok(path) = std::env::var("TIDEGATE_SIMULATION_SCRIPT") else { return };
    let (seed, actions) = read_script(&fs::read_to_string(path).unwrap()).unwrap();
    println!("{:#?}", Setup::of_seed(seed));
    let outcome = carry_out_and_show(seed, &actions, None, &runtime(), Show::Everything);
    println!("{:?}", outcome.err());
}

#[test]
fn scripts_of_earlier_failures_break_no_rule() {
    let runtime = runtime();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/scripts");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (seed, actions) = read_script(&fs::read_to_string(&path).unwrap()).unwrap();
        let outcome = carry_out(seed, &actions, None, &runtime);
        assert!(outcome.is_ok(), "{}: {:?}", path.display(), outcome.err());
    }
}

/// Plants a bug, and expects that one of the first seeds finds it, with a short script.
fn finds(bug: Bug, seeds: u64, kinds: &[&str]) {
    let runtime = runtime();
    let found = (0..seeds).find_map(|seed| run_seed(seed, STEPS, Some(bug), &runtime).err());
    let failure = found.unwrap_or_else(|| panic!("{seeds} seeds do not find {bug:?}"));
    let (seed, length) = (failure.seed, failure.actions.len());
    let failure = failure.shrink(Some(bug), &runtime);
    println!("{bug:?}: seed {seed}, {} of {length} actions\n{}", failure.actions.len(), failure.script());
    assert!(kinds.contains(&failure.violation.kind), "{:?}", failure.violation);
    assert!(failure.actions.len() < length / 2, "the script is short");
    let (seed, actions) = read_script(&failure.script()).unwrap();
    assert!(carry_out(seed, &actions, Some(bug), &runtime).is_err(), "the script breaks the rule again");
    assert!(carry_out(seed, &actions, None, &runtime).is_ok(), "it is the bug that breaks the rule");
}

#[test]
fn a_gap_of_an_inbox_that_counts_too_few_is_found() {
    finds(Bug::OverflowCountsTooFew, 200, &["loss", "loss at rest"]);
}

#[test]
fn a_drop_that_no_gap_counts_is_found() {
    finds(Bug::DropIsSilent, 200, &["loss", "loss at rest"]);
}

#[test]
fn last_values_that_outlive_their_link_are_found() {
    finds(Bug::ValuesOutliveLink, 500, &["outdated", "loss at rest"]);
}

#[test]
fn a_leave_that_is_forgotten_is_found() {
    finds(Bug::LeaveIsForgotten, 200, &["feeds"]);
}
