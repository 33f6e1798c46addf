//! The metrics of the process: what Linux knows of it. Elsewhere there are no such values.

use std::fs;

use crate::metrics::samples::Samples;
use crate::metrics::samples::Value;
use crate::metrics::table;

/// The clock ticks of `/proc` in a second: the same on all Linux systems.
const TICKS_PER_S: f64 = 100.0;

/// Adds what Linux knows of the process.
pub(super) async fn add(samples: &mut Samples) {
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
        samples.set(&table::PROCESS_CPU, Value::Time(seconds));
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
        samples.add(&table::PROCESS_MEMORY, &[], bytes);
    }
    if let Some(open) = open_descriptors().await {
        samples.add(&table::PROCESS_OPEN_FDS, &[], open);
    }
    if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(descriptor_limit) {
        samples.add(&table::PROCESS_MAX_FDS, &[], limit);
    }
}

/// The number of open descriptors. Since Linux 6.2 it is the size of the folder. Older kernels say 0: then they are
/// counted on another thread, because there may be a million.
async fn open_descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        0 => tokio::task::spawn_blocking(|| Some(fs::read_dir(FOLDER).ok()?.count() as u64)).await.ok()?,
        open => Some(open),
    }
}

/// The soft limit on open files in `/proc/self/limits`; `None` if there is none.
fn descriptor_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The CPU time in `/proc/self/stat`: the 14th and 15th field. The second one, the name in brackets, may have blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_S)
}

/// The memory in `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_process_are_found() {
        let stat = "42 (a ) name) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 100 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(descriptor_limit("Max open files            1024      4096      files\n"), Some(1024));
        for broken in ["", ")", "1 (x) S", "VmRSS: x kB", "Max open files  unlimited unlimited files"] {
            let found = (cpu_seconds(broken), resident_bytes(broken), descriptor_limit(broken));
            assert_eq!(found, (None, None, None), "{broken}");
        }
    }
}
