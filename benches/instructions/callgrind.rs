//! Callgrind: runs a part of this program under valgrind, and reads how many instructions each section executed.

use std::process::Command;
use std::process::Stdio;

/// Runs one section. Callgrind writes its instruction count when this function returns.
#[inline(never)]
pub(crate) fn section(work: &mut dyn FnMut()) {
    collected(work);
    std::hint::black_box(());
}

/// Callgrind counts only inside this function.
#[inline(never)]
fn collected(work: &mut dyn FnMut()) {
    work();
    std::hint::black_box(());
}

/// Runs the part of this name under callgrind. Returns the instructions of each section, in order.
pub(crate) fn run(part: &str) -> Vec<u64> {
    let out = std::env::temp_dir().join(format!("tidegate-instructions-{}", std::process::id()));
    // `setarch -R` turns off address randomisation, so that every run executes the same instructions.
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
