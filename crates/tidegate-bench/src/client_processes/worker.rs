//! The client process: it connects its clients, answers pings, and reports what they received.
#![expect(clippy::print_stdout, reason = "the bench reads the replies from standard output")]

use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::bail;
use serde_json::json;

use crate::client::frame_parser::ClientEvent;
use crate::client_pool::ClientPool;
use crate::client_processes::idle_client::IdleClient;
use crate::client_processes::line;
use crate::client_processes::report::ClientReport;
use crate::inflate_cache::InflateCache;
use crate::tls;

/// How often a process looks for commands.
const COMMAND_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// What the clients of this process received.
#[derive(Debug)]
struct Received {
    /// By client: the number of the publication that it receives.
    expects: Vec<u64>,
    /// By client: whether it has received that.
    has_received: Vec<bool>,
    /// By client: how many pings it had received at the last report.
    pings: Vec<u64>,
    /// The first thing that should not have happened.
    fault: Option<String>,
    inflate_cache: InflateCache,
}

/// Runs the clients that standard input describes, until standard input ends.
pub fn run() -> anyhow::Result<()> {
    crate::raise_file_limit(0);
    let (clients, [first, processes]) = read_clients()?;
    let (configs, expects) = clients.into_iter().map(|client| (client.config, client.expects)).unzip();
    let mut pool = ClientPool::new(configs)?;
    pool.share_machine(first, processes);
    let mut received = Received::new(expects);
    let commands = read_commands()?;
    loop {
        pool.poll(COMMAND_CHECK_INTERVAL, &mut |client, event, _| received.record(client, event))?;
        let command = match commands.try_recv() {
            Ok(command) => command,
            Err(TryRecvError::Empty) => continue,
            Err(TryRecvError::Disconnected) => return Ok(()),
        };
        let outcome = match command.as_str() {
            line::CONNECT => pool.connect_all(|client, event| received.record(client, event)),
            line::REPORT => Ok(()),
            other => bail!("there is no command {other}"),
        };
        match outcome.and_then(|()| received.report(pool.live() as u64, pool.pings())) {
            Ok(report) => println!("{}", report.line()),
            Err(error) => println!("{}", json!({ "error": format!("{error:#}") })),
        }
    }
}

/// Reads all clients from standard input. Also returns the number of the first one, and the number of processes.
fn read_clients() -> anyhow::Result<(Vec<IdleClient>, [usize; 2])> {
    // The lines lock standard input until this function returns.
    let mut lines = std::io::stdin().lines();
    let mut next = || lines.next().transpose()?.context("the bench ended");
    let [first, count, processes] = line::parse_head(&next()?)?;
    let certificate = next()?;
    let tls = line::parse_certificate(&certificate).map(tls::client_config).transpose()?;
    let client = |_| {
        let mut client = line::parse_client(&next()?)?;
        client.config.tls.clone_from(&tls);
        anyhow::Ok(client)
    };
    let clients = (0..count).map(client).collect::<anyhow::Result<_>>()?;
    Ok((clients, [first, processes]))
}

/// Reads lines from standard input on a separate thread.
fn read_commands() -> anyhow::Result<Receiver<String>> {
    let (sender, commands) = mpsc::channel();
    crate::in_background(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(commands)
}

impl Received {
    fn new(expects: Vec<u64>) -> Self {
        let clients = expects.len();
        Self {
            expects,
            has_received: vec![false; clients],
            pings: vec![0; clients],
            fault: None,
            inflate_cache: InflateCache::default(),
        }
    }

    fn record(&mut self, client: usize, event: ClientEvent<'_>) {
        let number = match event {
            ClientEvent::Live { .. } | ClientEvent::Reply | ClientEvent::Rejected => return,
            ClientEvent::Publication(number) => Some(number),
            ClientEvent::Compressed(message) => self.inflate_cache.number(message),
            ClientEvent::Gap { cause, .. } => return self.fault(|| format!("it received a gap ({cause})")),
            ClientEvent::Ended(reason) => return self.fault(|| format!("its connection ended: {reason}")),
        };
        if number != Some(self.expects[client]) || self.has_received[client] {
            return self.fault(|| format!("it received {number:?} too often or by mistake"));
        }
        self.has_received[client] = true;
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        self.fault.get_or_insert_with(what);
    }

    /// The report, and the end of the time for which it counts pings. `pings` are those of the connections, by client.
    fn report(&mut self, connected: u64, pings: Vec<u64>) -> anyhow::Result<ClientReport> {
        if let Some(fault) = &self.fault {
            bail!("a client has a fault, so there are no results: {fault}");
        }
        let since = pings.iter().zip(&self.pings).map(|(now, before)| now.saturating_sub(*before));
        let report = ClientReport {
            connected,
            received: self.has_received.iter().filter(|received| **received).count() as u64,
            pings: since.clone().sum(),
            fewest_pings: since.min().unwrap_or_default(),
        };
        self.pings = pings;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_count_from_one_report_to_the_next() {
        let mut received = Received::new(vec![0, 0]);
        let first = received.report(2, vec![3, 1]).unwrap();
        assert_eq!(first, ClientReport { connected: 2, received: 0, pings: 4, fewest_pings: 1 });
        let second = received.report(2, vec![4, 3]).unwrap();
        assert_eq!((second.pings, second.fewest_pings), (3, 1));
    }

    #[test]
    fn a_client_receives_its_publication_once() {
        let mut received = Received::new(vec![7, 8]);
        received.record(1, ClientEvent::Live { after: Duration::ZERO });
        received.record(1, ClientEvent::Publication(8));
        assert_eq!(received.report(2, vec![0, 0]).unwrap().received, 1);
        received.record(1, ClientEvent::Publication(8));
        let error = received.report(2, vec![0, 0]).unwrap_err().to_string();
        assert!(error.contains("it received Some(8) too often"), "{error}");
    }

    #[test]
    fn a_lost_connection_is_a_fault_and_the_first_one_is_reported() {
        let mut received = Received::new(vec![0]);
        received.record(0, ClientEvent::Ended("code 4002"));
        received.record(0, ClientEvent::Gap { cause: "slow", dropped: None });
        let error = received.report(1, vec![0]).unwrap_err().to_string();
        assert!(error.ends_with("its connection ended: code 4002"), "{error}");
    }
}
