//! Callgrind: runs a part of this program under valgrind, and reads what each section of it has executed.

use std::process::Command;
use std::process::Stdio;

/// A section: what was executed in it is written down when this is left.
#[inline(never)]
pub(crate) fn section(work: &mut dyn FnMut()) {
    collected(work);
    std::hint::black_box(());
}

/// Only what is done in here is counted.
#[inline(never)]
fn collected(work: &mut dyn FnMut()) {
    work();
    std::hint::black_box(());
}

/// Runs the part of this name. Gives the instructions of its sections, in order.
pub(crate) fn run(part: &str) -> Vec<u64> {
    let out = std::env::temp_dir().join(format!("tidegate-instructions-{}", std::process::id()));
    // Addresses are where they are, whatever the kernel likes to do with them.
    let mut command = Command::new("setarch");
    command.args(["-R", "valgrind", "-q", "--tool=callgrind", "--combine-dumps=yes", "--dump-line=no"]);
    command.args(["--collect-atstart=no", "--toggle-collect=*callgrind::collected*"]);
    command.arg("--dump-after=*callgrind::section*");
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(std::env::current_exe().unwrap()).args(["count", part]).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{part} ended with {}", output.status);
    let dumps = std::fs::read(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let lines = dumps.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut counts = Vec::new();
    let mut is_section = false;
    for line in lines {
        if let Some(trigger) = line.strip_prefix("desc: Trigger: ") {
            is_section = trigger.starts_with("--dump-after");
        } else if let Some(total) = line.strip_prefix("totals: ").filter(|_| is_section) {
            counts.push(total.trim().parse().unwrap());
        }
    }
    counts
}
