//! A nats-server of our own, for `tidegate dev`: found, started on loopback, watched, and ended with us.
#![expect(clippy::print_stderr, reason = "a command speaks to a person")]

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
/// Where `nats pub` looks when it is not told otherwise.
const USUAL_PORT: u16 = 4222;

/// A nats-server that runs next to us.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    folder: PathBuf,
    /// Where it listens.
    pub port: u16,
    child: Child,
}

impl NatsServer {
    /// Starts one: `program`, or what the PATH has. It listens on its usual port if that is free.
    pub async fn start(program: Option<&str>) -> anyhow::Result<Self> {
        let program = PathBuf::from(program.unwrap_or("nats-server"));
        check_version(&program).await?;
        let folder = std::env::temp_dir().join(format!("tidegate-dev-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(folder.join("nats.conf"), CONFIGURATION)?;
        let usual = Self::on_port(&program, &folder, &USUAL_PORT.to_string()).await;
        match usual {
            Ok(server) => Ok(server),
            // Somebody else has the port, most likely: any other will do.
            Err(_) => Self::on_port(&program, &folder, "-1").await,
        }
    }

    async fn on_port(program: &Path, folder: &Path, port: &str) -> anyhow::Result<Self> {
        let mut child = spawn(program, folder, port)?;
        let port = listening_port(&mut child, program, folder).await?;
        Ok(Self { program: program.to_owned(), folder: folder.to_owned(), port, child })
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it again whenever it ends, until `stop`; then ends it.
    pub async fn supervise(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ended = self.child.wait() => {
                    let ended = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                    eprintln!("nats-server has ended ({ended}): starting it again");
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

/// The port that nats-server says it listens on, in a file that it writes when it does: a connection to the port would
/// not tell ours from somebody else's.
async fn listening_port(child: &mut Child, program: &Path, folder: &Path) -> anyhow::Result<u16> {
    let pid = child.id().context("nats-server has no process")?;
    let name = program.file_name().unwrap_or_default().display();
    let file = folder.join(format!("{name}_{pid}.ports"));
    for _ in 0..500 {
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            bail!(
                "nats-server ended at once ({status}): {}",
                log.lines().last().unwrap_or("it says nothing")
            );
        }
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Some(port) = port_in(&text)
        {
            return Ok(port);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("nats-server does not listen after 10 s")
}

/// `{"nats":["nats://127.0.0.1:4222"]}` → 4222.
fn port_in(text: &str) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_str(text).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

/// In a process group of its own, so that Ctrl-C in a terminal ends it after us and not before; and told by the
/// system when we end without a word, which takes a step of our own between (`tidegate beside`).
fn spawn(program: &Path, folder: &Path, port: &str) -> anyhow::Result<Child> {
    let ourselves = std::env::current_exe().context("cannot find our own program")?;
    Command::new(ourselves)
        .arg("beside")
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

/// `tidegate beside PROGRAM …`: becomes that program, which ends when whoever started this ends.
pub fn beside(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        eprintln!("warning: {} may outlive us: {error}", program.display());
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    eprintln!("error: cannot start {}: {error}", program.display());
    ExitCode::FAILURE
}

async fn check_version(program: &Path) -> anyhow::Result<()> {
    let how = "`make run` fetches one; or install nats-server 2.12 or newer on the PATH, name it with \
               TIDEGATE_NATS_SERVER, or use a running one with --nats-url nats://127.0.0.1:4222";
    let output = Command::new(program).arg("--version").output().await;
    let output = output.with_context(|| format!("there is no {} to start. {how}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = text.rsplit(' ').next().unwrap_or_default().trim_start_matches('v');
    if !is_new_enough(version) {
        bail!("{} is too old ({text}). {how}", program.display());
    }
    Ok(())
}
