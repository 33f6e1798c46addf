//! CPU time, memory and writes of a process, from `/proc`.

use std::time::Duration;

use anyhow::Context as _;

/// CPU time of all threads of a process, in nanosecond resolution. Threads that have ended are not included.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the process has ended")? {
        // A thread can end after we list it and before we read it.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let first = text.split_ascii_whitespace().next().unwrap_or_default();
        nanoseconds += first.parse::<u64>().context("cannot read CPU time: the kernel has no schedstat")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Resident memory of a process in bytes. Exact but slow: the kernel walks the page tables.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Rss:").map(|kib| kib * 1024)
}

/// Resident memory of a process in bytes. Fast, but wrong by up to some hundred KiB.
pub fn resident_estimate(pid: u32) -> anyhow::Result<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib * 1024)
}

/// Number of `write` and `writev` calls of a process.
pub fn writes(pid: u32) -> anyhow::Result<u64> {
    field(&format!("/proc/{pid}/io"), "syscw:")
}

fn field(path: &str, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok());
    number.with_context(|| format!("{path} has no {name}"))
}
