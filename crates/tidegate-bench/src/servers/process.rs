//! A child process, which ends when this program does.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::bail;

/// A running child process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program through `tidegate exec-with-parent`, so that it ends even if this program is killed. It has its own
    /// process group, so that Ctrl-C interrupts this program only. `own` is this program.
    pub fn start(own: &Path, program: &Path, arguments: &[&OsStr], log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(own);
        command
            .arg("exec-with-parent")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self::spawn(command, log)
    }

    /// Starts this program with other arguments, in the same way, and returns its standard input and output.
    pub fn start_with_pipes(
        own: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> anyhow::Result<(Self, ChildStdin, ChildStdout)> {
        let mut command = Command::new(own);
        command.arg("exec-with-parent").arg(own).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self::spawn(command, log)?;
        match (process.child.stdin.take(), process.child.stdout.take()) {
            (Some(input), Some(output)) => Ok((process, input, output)),
            _ => bail!("a process has no pipes"),
        }
    }

    fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        command.stderr(File::options().create(true).append(true).open(log)?).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the process has ended.
    pub fn exit_status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The text that the process wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
