//! Runs: a seed becomes a list of actions, they are carried out, and if a rule is broken the list is made shorter.

use std::cell::Cell;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Once;

use fastrand::Rng;
use tidegate::hooks;
use tidegate::hooks::Bug;
use tokio::runtime::Runtime;

use crate::action::Action;
use crate::counts::RunCounts;
use crate::ledger::Violation;
use crate::setup::Setup;
use crate::world::Show;
use crate::world::World;

/// The actions and how often each occurs. Of those in the second half, which disturb, a run has only some.
const USUAL: [(&str, u32); 15] = [
    ("publish", 12),
    ("upload", 10),
    ("download", 14),
    ("turn", 18),
    ("pump", 10),
    ("flush", 5),
    ("deadlines", 4),
    ("tick", 1),
    ("tasks", 3),
    ("step", 16),
    ("read", 14),
    ("connect", 3),
    ("subscribe", 6),
    ("unsubscribe", 3),
    ("advance", 6),
];
const DISTURBING: [(&str, u32); 7] =
    [("publish-bad", 2), ("leave", 1), ("garbage", 1), ("cut", 1), ("restore", 4), ("deny", 1), ("allow", 1)];

/// A broken rule, and the actions that break it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) actions: Vec<Action>,
    pub(crate) violation: Violation,
}

/// The runtime in which runs carry out the few tasks of shards.
pub(crate) fn runtime() -> Runtime {
    quiet_panics();
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

thread_local! {
    /// Whether a panic on this thread is expected, because it becomes a [`Violation`].
    static IS_RUN: Cell<bool> = const { Cell::new(false) };
}

/// Panics in runs are violations, so they print nothing by themselves.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_RUN.get() {
                before(info);
            }
        }));
    });
}

/// The actions of a seed.
pub(crate) fn actions(seed: u64, steps: usize) -> Vec<Action> {
    let mut rng = Rng::with_seed(seed);
    let mut weights: Vec<(&str, u32)> = Vec::new();
    for (name, weight) in USUAL {
        weights.push((name, weight * rng.u32(1..=4)));
    }
    for (name, weight) in DISTURBING {
        weights.push((name, weight * [0, 0, 1, 3][rng.usize(..4)]));
    }
    let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
    let begin =
        (0..4).flat_map(|at| [Action::Connect { client: at, shard: at }, Action::Upload { lane: at }]);
    let mut actions: Vec<Action> = begin.collect();
    for _ in 0..steps {
        let mut at = rng.u32(..total);
        let chosen = weights.iter().find(|(_, weight)| {
            let is_it = at < *weight;
            at = at.saturating_sub(*weight);
            is_it
        });
        let name = chosen.map_or("turn", |(name, _)| name);
        actions.extend(Action::with(name, || rng.u16(..1000)));
    }
    actions
}

/// Carries out actions on the node of a seed, lets it come to rest, and checks everything.
pub(crate) fn carry_out(
    seed: u64,
    actions: &[Action],
    bug: Option<Bug>,
    runtime: &Runtime,
) -> Result<RunCounts, Violation> {
    carry_out_and_show(seed, actions, bug, runtime, Show::Nothing)
}

/// The same, and prints what is to be shown.
pub(crate) fn carry_out_and_show(
    seed: u64,
    actions: &[Action],
    bug: Option<Bug>,
    runtime: &Runtime,
    show: Show,
) -> Result<RunCounts, Violation> {
    hooks::plant(bug);
    IS_RUN.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(Setup::of_seed(seed), runtime);
        world.show = show;
        actions.iter().try_for_each(|action| world.act(*action))?;
        world.come_to_rest()?;
        let mut counts = world.counts.clone();
        counts.runs = 1;
        world.received.iter().for_each(|received| counts.add_ledger(received.counts));
        Ok(counts)
    }));
    IS_RUN.set(false);
    hooks::plant(None);
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(Violation { kind: "panic", text: text.to_owned() })
    })
}

/// Runs a seed. A failure is not shrunk yet.
pub(crate) fn run_seed(
    seed: u64,
    steps: usize,
    bug: Option<Bug>,
    runtime: &Runtime,
) -> Result<RunCounts, Failure> {
    let actions = actions(seed, steps);
    carry_out(seed, &actions, bug, runtime).map_err(|violation| Failure { seed, actions, violation })
}

impl Failure {
    /// Removes actions as long as the rest breaks the same rule.
    pub(crate) fn shrink(mut self, bug: Option<Bug>, runtime: &Runtime) -> Self {
        let mut chunk = self.actions.len().div_ceil(2).max(1);
        loop {
            let (mut at, mut has_shrunk) = (0, false);
            while at < self.actions.len() {
                let mut fewer = self.actions.clone();
                fewer.drain(at..(at + chunk).min(fewer.len()));
                match carry_out(self.seed, &fewer, bug, runtime) {
                    Err(violation) if violation.kind == self.violation.kind => {
                        (self.actions, self.violation, has_shrunk) = (fewer, violation, true);
                    }
                    Ok(_) | Err(_) => at += chunk,
                }
            }
            if chunk == 1 && !has_shrunk {
                return self;
            }
            chunk = (chunk / 2).max(1);
        }
    }

    /// The script that breaks the rule, as a file of `tests/simulation/scripts`.
    pub(crate) fn script(&self) -> String {
        let mut script = format!("# {}: {}\nseed {}\n", self.violation.kind, self.violation.text, self.seed);
        for action in &self.actions {
            let _ = writeln!(script, "{action}");
        }
        script
    }
}

/// The seed and the actions of a script.
pub(crate) fn read_script(text: &str) -> Result<(u64, Vec<Action>), String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut seed, mut actions) = (None, Vec::new());
    for line in lines {
        match line.strip_prefix("seed ") {
            Some(number) => seed = Some(number.parse().map_err(|_| format!("`{line}` is no seed"))?),
            None => actions.push(line.parse()?),
        }
    }
    Ok((seed.ok_or("the script names no seed")?, actions))
}
