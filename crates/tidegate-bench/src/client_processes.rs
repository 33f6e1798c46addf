//! Idle clients in separate processes, because one process may not open enough sockets for all of them. The bench
//! sends each process the configurations of its clients, and then commands, as lines on standard input. The process
//! replies to each command with a line of JSON.

mod idle_client;
mod line;
mod report;
mod worker;

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::process::ChildStdin;
use std::process::ChildStdout;

use anyhow::Context as _;
use anyhow::bail;

pub use crate::client_processes::idle_client::IdleClient;
pub use crate::client_processes::report::ClientReport;
pub use crate::client_processes::worker::run;
use crate::servers::Programs;
use crate::servers::process::Process;
use crate::tls::Tls;

/// All client processes. They end when this is dropped.
#[derive(Debug)]
pub struct ClientProcesses(Vec<ClientProcess>);

#[derive(Debug)]
struct ClientProcess {
    process: Process,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl ClientProcesses {
    /// Starts this number of processes, and distributes the clients. They do not connect yet. `tls` is that of all
    /// clients.
    pub fn start(
        programs: &Programs,
        clients: &[IdleClient],
        processes: usize,
        tls: Option<&Tls>,
    ) -> anyhow::Result<Self> {
        let certificate = tls.map(|tls| tls.cert_file.as_path());
        let per_process = clients.len().div_ceil(processes).max(1);
        let started = clients.chunks(per_process).enumerate().map(|(number, part)| {
            let log = programs.folder.join(format!("clients-{number}.log"));
            let head =
                line::head(number * per_process, part.len(), processes) + &line::certificate(certificate);
            ClientProcess::start(&programs.own, &log, head, part)
        });
        started.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Connects all clients of all processes, and waits until they are subscribed.
    pub fn connect(&mut self) -> anyhow::Result<()> {
        self.command(line::CONNECT).map(drop)
    }

    /// What all clients received. Fails if one of them lost its connection, or received something unexpected.
    pub fn report(&mut self) -> anyhow::Result<ClientReport> {
        self.command(line::REPORT)
    }

    /// Sends a command to all processes at once, and collects their replies.
    fn command(&mut self, command: &str) -> anyhow::Result<ClientReport> {
        for process in &mut self.0 {
            writeln!(process.commands, "{command}").with_context(|| process.ended())?;
        }
        let replies = self.0.iter_mut().map(ClientProcess::reply);
        let replies = replies.collect::<anyhow::Result<Vec<_>>>()?;
        replies.into_iter().reduce(ClientReport::plus).context("there are no clients")
    }
}

impl ClientProcess {
    fn start(own: &Path, log: &Path, head: String, clients: &[IdleClient]) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(log);
        let (process, mut commands, replies) = Process::start_with_pipes(own, &["bench-clients"], log)?;
        let mut lines = head;
        clients.iter().for_each(|client| lines += &line::client(client));
        let sent = commands.write_all(lines.as_bytes());
        let process = Self { process, commands, replies: BufReader::new(replies) };
        sent.with_context(|| process.ended())?;
        Ok(process)
    }

    fn reply(&mut self) -> anyhow::Result<ClientReport> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            bail!(self.ended());
        }
        ClientReport::parse(&line)
    }

    fn ended(&self) -> String {
        format!("a client process ended:\n{}", self.process.log())
    }
}
