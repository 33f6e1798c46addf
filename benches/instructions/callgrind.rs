//! Callgrind: runs a part of this program under valgrind, and reads how many instructions each section executed.

use std::process::Command;
use std::process::Stdio;

/// Runs one section. Callgrind writes its instruction count when this function returns.
#[inline(never)]
pub(crate) fn section(work: &mut dyn FnMut()) {
    collected(work);
    std::hint::black_box(());
}

/// Does not count this work, which is part of work that is counted.
pub(crate) fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let (mut work, mut result) = (Some(work), None);
    // Callgrind changes between counting and not counting at each entry to the function, and back at its end.
    collected(&mut || result = work.take().map(|work| work()));
    result.unwrap()
}

/// Callgrind counts only inside this function. A section inside it is not counted, but ends what was counted before.
#[inline(never)]
pub(crate) fn collected(work: &mut dyn FnMut()) {
    work();
    std::hint::black_box(());
}

/// Runs the part of this name under callgrind. Returns the instructions of each section, in order, and what the part has
/// printed.
pub(crate) fn run(part: &str) -> (Vec<u64>, String) {
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
    (counts, String::from_utf8(output.stdout).unwrap())
}
