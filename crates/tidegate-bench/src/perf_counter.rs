//! Counts events of a running process with `perf stat`, where perf is installed and the system permits it.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::bail;
use rustix::process::Pid;
use rustix::process::Signal;

/// A perf process that is attached to another process, and counts one event of all its threads.
#[derive(Debug)]
pub struct PerfCounter {
    perf: Child,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
    /// The file that perf writes the count to.
    file: PathBuf,
}

impl PerfCounter {
    /// Attaches to a process. Counts nothing until [`PerfCounter::start`]. `event` is an event of `perf list`.
    pub fn attach(pid: u32, event: &str, folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(format!("perf-{pid}-{}", event.replace([':', '/'], "-")));
        let mut perf = Command::new("perf")
            .args(["stat", "-x", ",", "-D", "-1", "--control", "fd:0,1", "-e", event, "-p"])
            .arg(pid.to_string())
            .arg("-o")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("perf is not installed")?;
        let (Some(commands), Some(replies)) = (perf.stdin.take(), perf.stdout.take()) else {
            bail!("perf has no pipes");
        };
        Ok(Self { perf, commands, replies: BufReader::new(replies), file })
    }

    /// Starts to count, and waits until perf confirms it.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.command("enable")
    }

    /// Stops to count. The load may go on.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.command("disable")
    }

    /// The count. Takes a while: perf ends first.
    pub fn count(mut self) -> anyhow::Result<u64> {
        // perf writes the count when it is interrupted.
        rustix::process::kill_process(Pid::from_child(&self.perf), Signal::INT)?;
        self.perf.wait()?;
        count_in(&std::fs::read_to_string(&self.file)?)
    }

    fn command(&mut self, command: &str) -> anyhow::Result<()> {
        let sent = writeln!(self.commands, "{command}");
        let mut reply = String::new();
        if sent.is_err() || self.replies.read_line(&mut reply)? == 0 {
            bail!("perf may not count it here");
        }
        Ok(())
    }
}

impl Drop for PerfCounter {
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

/// The count in perf's output: `120,,raw_syscalls:sys_enter,…`. Lines that begin with `#` are comments.
fn count_in(output: &str) -> anyhow::Result<u64> {
    let mut lines = output.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let count = lines.next().and_then(|line| line.split(',').next()).context("perf wrote no count")?;
    count.parse().ok().with_context(|| format!("perf reports {count}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_the_first_field_of_the_first_line_that_is_no_comment() {
        let output = "# started on Mon\n\n1234,,raw_syscalls:sys_enter,5017,100.00,,\n";
        assert_eq!(count_in(output).unwrap(), 1234);
    }

    #[test]
    fn an_event_that_the_processor_does_not_count_is_an_error_with_the_words_of_perf() {
        let error = count_in("\n<not supported>,,instructions:u,0,100.00,,\n").unwrap_err();
        assert_eq!(error.to_string(), "perf reports <not supported>");
        assert_eq!(count_in("# started on Mon\n").unwrap_err().to_string(), "perf wrote no count");
    }

    #[test]
    fn a_process_that_does_not_exist_gives_an_error_and_no_count() {
        let folder = std::env::temp_dir();
        let counter = PerfCounter::attach(u32::MAX >> 1, "raw_syscalls:sys_enter", &folder);
        assert!(counter.and_then(|mut counter| counter.start()).is_err());
    }
}
