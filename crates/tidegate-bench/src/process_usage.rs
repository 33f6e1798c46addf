//! CPU time, memory, writes and context switches of a process, from `/proc`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// CPU time of all threads of a process, in nanosecond resolution. Threads that have ended are not included.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let nanoseconds = sum_over_threads(pid, |thread| {
        let Ok(text) = std::fs::read_to_string(thread.join("schedstat")) else { return Ok(0) };
        let first = text.split_ascii_whitespace().next().unwrap_or_default();
        first.parse().context("cannot read CPU time: the kernel has no schedstat")
    })?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// How often threads of a process have slept. Threads that have ended are not included.
pub fn voluntary_switches(pid: u32) -> anyhow::Result<u64> {
    sum_over_threads(pid, |thread| {
        let Ok(text) = std::fs::read_to_string(thread.join("status")) else { return Ok(0) };
        value(&text, "voluntary_ctxt_switches:").context("the kernel does not count context switches")
    })
}

/// Adds up a number of each thread. `read` gets the thread's folder; a thread can end after we list it.
fn sum_over_threads(pid: u32, read: impl Fn(&Path) -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).context("the process has ended")?;
    let mut sum = 0;
    for thread in threads {
        sum += read(&thread?.path())?;
    }
    Ok(sum)
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
    value(&text, name).with_context(|| format!("{path} has no {name}"))
}

/// The number after this name at the start of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches(" kB").parse().ok()
}
