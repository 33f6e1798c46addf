//! The machine and the programs that produced the results.

use serde_json::Value;
use serde_json::json;

/// Everything outside the workload that the results depend on.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
    pub nats_server: String,
    /// The version of this program, and whether it is a debug or release build.
    pub tidegate: String,
}

impl Machine {
    /// Describes this machine. `nats_server` is that program's name and version.
    pub fn current(nats_server: &str) -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = file("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            cpu: model.map_or_else(|| "an unknown CPU".to_owned(), |(_, model)| model.trim().to_owned()),
            kernel: format!("{} {}", std::env::consts::OS, file("/proc/sys/kernel/osrelease").trim()),
            nats_server: nats_server.to_owned(),
            tidegate: format!("tidegate {} ({build})", env!("CARGO_PKG_VERSION")),
        }
    }

    /// All of it in one line of text.
    pub fn line(&self) -> String {
        let Self { cores, cpu, kernel, nats_server, tidegate } = self;
        format!("{tidegate}, {nats_server}, {cores} cores ({cpu}), {kernel}")
    }

    pub fn json(&self) -> Value {
        let Self { cores, cpu, kernel, nats_server, tidegate } = self;
        json!({ "cores": cores, "cpu": cpu, "kernel": kernel, "nats_server": nats_server, "tidegate": tidegate })
    }
}
