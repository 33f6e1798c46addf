//! The nats-server of `tidegate dev`: found, started on loopback, restarted if it ends, and stopped with us.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use rustix::process::Pid;
use rustix::process::Signal;
use tokio::process::Child;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::nats::version::is_new_enough;

const CONFIGURATION: &str = include_str!("../../nats/dev.conf");
/// The default port of NATS.
const DEFAULT_PORT: u16 = 4222;

/// A nats-server that this process has started.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    folder: PathBuf,
    pub port: u16,
    child: Child,
}

impl NatsServer {
    /// Starts `program`, or `nats-server` from the PATH. It listens on the default port if that is free.
    pub async fn start(program: Option<&str>) -> anyhow::Result<Self> {
        let program = PathBuf::from(program.unwrap_or("nats-server"));
        check_version(&program).await?;
        let folder = std::env::temp_dir().join(format!("tidegate-dev-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        std::fs::write(folder.join("nats.conf"), CONFIGURATION)?;
        let with_default_port = Self::on_port(&program, &folder, &DEFAULT_PORT.to_string()).await;
        match with_default_port {
            Ok(server) => Ok(server),
            // The port is probably in use: take any other.
            Err(_) => Self::on_port(&program, &folder, "-1").await,
        }
    }

    async fn on_port(program: &Path, folder: &Path, port: &str) -> anyhow::Result<Self> {
        let mut child = spawn(program, folder, port)?;
        let port = listening_port(&mut child, program, folder).await?;
        Ok(Self { program: program.to_owned(), folder: folder.to_owned(), port, child })
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Restarts the server whenever it ends, until `stop`; then stops it.
    pub async fn supervise(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ended = self.child.wait() => {
                    let ended = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                    eprintln!("nats-server has ended ({ended}): restarting it");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    match spawn(&self.program, &self.folder, &self.port.to_string()) {
                        Ok(child) => self.child = child,
                        Err(error) => eprintln!("{error:#}"),
                    }
                }
            }
        }
        self.end().await;
    }

    async fn end(&mut self) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap_or_default()));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(Duration::from_secs(3), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The port that nats-server listens on, from its ports file. A connection to the port would not prove that it is this
/// server.
async fn listening_port(child: &mut Child, program: &Path, folder: &Path) -> anyhow::Result<u16> {
    let pid = child.id().context("nats-server ended at once")?;
    let name = program.file_name().unwrap_or_default().display();
    let file = folder.join(format!("{name}_{pid}.ports"));
    for _ in 0..500 {
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            bail!(
                "nats-server ended at once ({status}): {}",
                log.lines().last().unwrap_or("its log is empty")
            );
        }
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Some(port) = port_in(&text)
        {
            return Ok(port);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("nats-server did not open a port within 10 s")
}

/// `{"nats":["nats://127.0.0.1:4222"]}` → 4222.
fn port_in(text: &str) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_str(text).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

/// Starts nats-server in its own process group, so that Ctrl-C in a terminal does not stop it before us. It is started
/// by `tidegate exec-with-parent`, so that it also ends when this process is killed.
fn spawn(program: &Path, folder: &Path, port: &str) -> anyhow::Result<Child> {
    let ourselves = std::env::current_exe().context("cannot find the tidegate program")?;
    Command::new(ourselves)
        .arg("exec-with-parent")
        .arg(program)
        .arg("-c")
        .arg(folder.join("nats.conf"))
        .args(["-a", "127.0.0.1", "-p", port, "-sd"])
        .arg(folder.join("store"))
        .arg("-l")
        .arg(folder.join("log"))
        .arg("--ports_file_dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// `tidegate exec-with-parent PROGRAM …`: replaces this process by the program, and asks the system to end it with its
/// parent.
pub fn exec_with_parent(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("warning: {} may keep running after tidegate ends: {error}", program.display());
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    eprintln!("error: cannot start {}: {error}", program.display());
    ExitCode::FAILURE
}

async fn check_version(program: &Path) -> anyhow::Result<()> {
    let how = "Use `make run`, which downloads one; or install nats-server 2.12 or newer on the PATH; or set \
               TIDEGATE_NATS_SERVER to its path; or use a running one with --nats-url nats://127.0.0.1:4222";
    let output = Command::new(program).arg("--version").output().await;
    let output = output.with_context(|| format!("cannot run {}. {how}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = text.rsplit(' ').next().unwrap_or_default().trim_start_matches('v');
    if !is_new_enough(version) {
        bail!("{} is too old ({text}). {how}", program.display());
    }
    Ok(())
}
