//! The servers under load, as child processes: nats-server, Tidegate in front of it, or the baseline.

pub mod process;
pub mod scraper;
pub mod settings;
pub mod vocabulary;

use std::ffi::OsStr;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::bail;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use rustls::StreamOwned;
use serde_json::Value;
use serde_json::json;

use crate::client::ClientConfig;
use crate::client::dialect::Dialect;
use crate::process_usage;
use crate::producer::Destination;
use crate::servers::process::Process;
use crate::servers::scraper::Scraper;
use crate::servers::settings::Settings;
use crate::servers::vocabulary::Vocabulary;
use crate::tls;
use crate::tls::Tls;

/// Longest time for a server to start.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a measurement compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Tidegate program with nats-server behind it. The name distinguishes several builds, and those with
    /// `lane = "own"` in the class of private subjects.
    Tidegate { name: String, program: PathBuf, own_lane: bool },
    /// The same, with clients that use the vocabulary of Stock Agent's frontend.
    StockAgent { program: PathBuf },
    /// The same, with clients that use a vocabulary from a file.
    Vocabulary { program: PathBuf, vocabulary: Vocabulary },
    /// Centrifugo with nats-server behind it.
    Centrifugo { program: PathBuf },
    /// nats-server's own WebSocket listener.
    NatsServer,
    /// The baseline server of this crate.
    Baseline,
}

impl Target {
    /// The name in tables and JSON.
    pub fn name(&self) -> &str {
        match self {
            Self::Tidegate { name, .. } => name,
            Self::StockAgent { .. } => "stock-agent",
            Self::Vocabulary { vocabulary, .. } => &vocabulary.name,
            Self::Centrifugo { .. } => "centrifugo",
            Self::NatsServer => "nats-server",
            Self::Baseline => "baseline",
        }
    }

    /// Whether the class of private subjects has `lane = "own"`, whatever the workload.
    pub fn has_own_lane(&self) -> bool {
        matches!(self, Self::Tidegate { own_lane: true, .. })
    }

    fn dialect(&self) -> Dialect {
        match self {
            Self::Tidegate { .. } => Dialect::Native,
            Self::StockAgent { .. } => Dialect::StockAgent,
            Self::Vocabulary { .. } => Dialect::Vocabulary,
            Self::Centrifugo { .. } => Dialect::Centrifugo,
            Self::NatsServer => Dialect::Nats,
            Self::Baseline => Dialect::Baseline,
        }
    }

    /// The Tidegate program, if the target is Tidegate.
    fn program(&self) -> Option<&Path> {
        match self {
            Self::Tidegate { program, .. }
            | Self::StockAgent { program }
            | Self::Vocabulary { program, .. } => Some(program),
            Self::Centrifugo { .. } | Self::NatsServer | Self::Baseline => None,
        }
    }

    /// The vocabulary from a file, if clients use one.
    fn custom_vocabulary(&self) -> Option<&Vocabulary> {
        match self {
            Self::Vocabulary { vocabulary, .. } => Some(vocabulary),
            Self::Tidegate { .. }
            | Self::StockAgent { .. }
            | Self::Centrifugo { .. }
            | Self::NatsServer
            | Self::Baseline => None,
        }
    }

    /// The vocabulary that clients use, if any: the name of its file among the servers' files, and its text.
    fn vocabulary(&self) -> Option<(&'static str, String)> {
        match self {
            Self::StockAgent { .. } => Some(("stock-agent.toml", settings::stock_agent())),
            Self::Vocabulary { vocabulary, .. } => Some(("vocabulary.toml", vocabulary.text.clone())),
            Self::Tidegate { .. } | Self::Centrifugo { .. } | Self::NatsServer | Self::Baseline => None,
        }
    }

    /// Translates subjects of the bench into subjects that the vocabulary's measured rule matches.
    pub fn subjects(&self, subjects: Vec<String>) -> Vec<String> {
        let Some(vocabulary) = self.custom_vocabulary() else { return subjects };
        subjects.iter().map(|subject| vocabulary.subject(item(subject))).collect()
    }
}

/// The programs that the servers run, and the folder for their files.
#[derive(Clone, Debug)]
pub struct Programs {
    pub nats_server: PathBuf,
    /// This program, which also runs the baseline server.
    pub own: PathBuf,
    /// For configuration files and logs.
    pub folder: PathBuf,
}

/// The running servers of one target. They are killed when this is dropped.
#[derive(Debug)]
pub struct Servers {
    target: Target,
    programs: Programs,
    nats: Option<Process>,
    /// Reads the metrics of Tidegate's nodes.
    scraper: Option<Scraper>,
    /// The servers in front of nats-server: Tidegate's nodes, or the baseline.
    fronts: Vec<Process>,
    /// The addresses that clients connect to.
    addresses: Vec<SocketAddr>,
    /// nats-server's client port.
    nats_address: SocketAddr,
    /// nats-server's HTTP monitoring port.
    monitor: SocketAddr,
    /// Set if clients connect over TLS.
    tls: Option<Tls>,
    /// The key that signs all tokens. It is random, and used for this run only.
    key: String,
}

impl Servers {
    /// Starts the servers and waits until they accept clients. Another program can take a port after we found it free,
    /// so a failed start is repeated twice, with other ports.
    pub fn start(programs: &Programs, target: &Target, settings: &Settings) -> anyhow::Result<Self> {
        for _ in 0..2 {
            if let Ok(servers) = Self::start_once(programs, target, settings) {
                return Ok(servers);
            }
        }
        Self::start_once(programs, target, settings)
    }

    fn start_once(programs: &Programs, target: &Target, settings: &Settings) -> anyhow::Result<Self> {
        let [nats_address, monitor, websocket] = free_addresses()?;
        let mut servers = Self {
            target: target.clone(),
            programs: programs.clone(),
            nats: None,
            scraper: None,
            fronts: Vec::new(),
            addresses: vec![websocket],
            nats_address,
            monitor,
            tls: settings.tls.clone(),
            key: random_key()?,
        };
        if *target == Target::Baseline {
            servers.start_baseline(settings)?;
            return Ok(servers);
        }
        let configuration = settings::nats(nats_address, monitor, websocket, settings);
        std::fs::write(programs.folder.join("nats.conf"), configuration)?;
        servers.start_nats()?;
        wait_until_listening(websocket)?;
        if let Some(program) = target.program() {
            servers.start_nodes(program, settings)?;
        }
        if let Target::Centrifugo { program } = target {
            servers.start_centrifugo(program)?;
        }
        Ok(servers)
    }

    /// Starts or restarts nats-server, and waits until it listens.
    pub fn start_nats(&mut self) -> anyhow::Result<()> {
        let Programs { nats_server, own, folder } = &self.programs;
        let configuration = folder.join("nats.conf");
        let arguments = ["-c".as_ref(), configuration.as_os_str()];
        let log = folder.join("nats.log");
        let _ = std::fs::remove_file(&log);
        let mut nats = Process::start(own, nats_server, &arguments, &log)?;
        let until = Instant::now() + TIMEOUT;
        while TcpStream::connect(self.nats_address).is_err() {
            if let Some(status) = nats.exit_status()? {
                bail!("nats-server ended ({status}):\n{}", nats.log());
            }
            if Instant::now() > until {
                bail!("nats-server does not listen after {TIMEOUT:?}:\n{}", nats.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.nats = Some(nats);
        Ok(())
    }

    /// Kills nats-server with SIGKILL.
    pub fn kill_nats(&mut self) {
        self.nats = None;
    }

    /// Starts all nodes of Tidegate, one after the other.
    fn start_nodes(&mut self, program: &Path, settings: &Settings) -> anyhow::Result<()> {
        let vocabulary = self.target.custom_vocabulary();
        let extra_pattern = vocabulary.map(|vocabulary| vocabulary.subject("*")).unwrap_or_default();
        let settings = &Settings { extra_pattern, ..settings.clone() };
        let mut endpoint = String::new();
        if let Some((name, text)) = self.target.vocabulary() {
            let file = Self::write_file(&self.programs, name, &text)?;
            endpoint = format!("[[endpoint]]\nvocabulary = \"{}\"\n", file.display());
        }
        self.addresses.clear();
        let mut admins = Vec::new();
        for node in 1..=settings.nodes.max(1) {
            let [listen, admin] = free_addresses()?;
            let mut settings = settings.clone();
            if settings.scrape {
                settings.set.push(format!("admin.listen={admin}"));
                admins.push(admin);
            }
            let settings = &settings;
            let configuration =
                settings::tidegate(listen, self.nats_address, &self.key, settings) + &endpoint;
            let name = if node == 1 { "tidegate".to_owned() } else { format!("tidegate-{node}") };
            std::fs::write(self.programs.folder.join(format!("{name}.toml")), configuration)?;
            self.fronts.push(self.start_node(program, settings, &name, listen)?);
            self.addresses.push(listen);
        }
        // On loopback, the admin listener has no TLS.
        let scrape = |node| matches!(http_get(node, "/metrics", None), Ok((200, _)));
        self.scraper = settings.scrape.then(|| Scraper::start(admins, scrape)).transpose()?;
        Ok(())
    }

    /// How many scrapes of Tidegate's metrics were answered, and how many were not. `None` without `--scrape`.
    pub fn scrapes(&self) -> Option<(u64, u64)> {
        self.scraper.as_ref().map(Scraper::counts)
    }

    /// Starts a node with the configuration file of this name, and waits until `/readyz` is 200 at this address.
    fn start_node(
        &self,
        program: &Path,
        settings: &Settings,
        name: &str,
        address: SocketAddr,
    ) -> anyhow::Result<Process> {
        let Programs { own, folder, .. } = &self.programs;
        let configuration = folder.join(format!("{name}.toml"));
        let limited = format!("ulimit -n {} && exec \"$0\" \"$@\"", settings.max_open_files);
        let mut arguments = vec![];
        if settings.max_open_files > 0 {
            arguments.extend([OsStr::new("-c"), OsStr::new(&limited), program.as_os_str()]);
        }
        arguments.extend(["serve".as_ref(), "--config".as_ref(), configuration.as_os_str()]);
        for set in &settings.set {
            arguments.extend([OsStr::new("--set"), OsStr::new(set)]);
        }
        let log = folder.join(format!("{name}.log"));
        let _ = std::fs::remove_file(&log);
        let started = if settings.max_open_files > 0 { Path::new("/bin/sh") } else { program };
        let mut node = Process::start(own, started, &arguments, &log)?;
        let until = Instant::now() + TIMEOUT;
        while !matches!(http_get(address, "/readyz", self.tls.as_ref()), Ok((200, _))) {
            if let Some(status) = node.exit_status()? {
                bail!("{} ended ({status}):\n{}", program.display(), node.log());
            }
            if Instant::now() > until {
                bail!("{} is not ready after {TIMEOUT:?}:\n{}", program.display(), node.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(node)
    }

    /// Starts a second node on the same nats-server. Returns its address and its process, which is killed when dropped.
    pub fn start_second_node(&self, settings: &Settings) -> anyhow::Result<(SocketAddr, Process)> {
        let program = self.target.program().context("only Tidegate can run a second node")?;
        let [listen] = free_addresses()?;
        let configuration = settings::tidegate(listen, self.nats_address, &self.key, settings);
        std::fs::write(self.programs.folder.join("second.toml"), configuration)?;
        Ok((listen, self.start_node(program, settings, "second", listen)?))
    }

    /// Writes a file to the servers' folder, so that a configuration can refer to it.
    pub fn write_file(programs: &Programs, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let file = programs.folder.join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    fn start_centrifugo(&mut self, program: &Path) -> anyhow::Result<()> {
        let [listen] = free_addresses()?;
        let text = settings::centrifugo(listen, self.nats_address, &self.key);
        let file = Self::write_file(&self.programs, "centrifugo.json", &text)?;
        let log = self.programs.folder.join("centrifugo.log");
        let _ = std::fs::remove_file(&log);
        let front = Process::start(&self.programs.own, program, &["-c".as_ref(), file.as_os_str()], &log)?;
        wait_until_listening(listen)
            .with_context(|| format!("Centrifugo does not start:\n{}", front.log()))?;
        (self.fronts, self.addresses) = (vec![front], vec![listen]);
        Ok(())
    }

    fn start_baseline(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let Programs { own, folder, .. } = &self.programs;
        let threads = match settings.shards {
            0 => std::thread::available_parallelism()?.get(),
            shards => shards,
        };
        let ports = folder.join("baseline.ports");
        let _ = std::fs::remove_file(&ports);
        let threads_text = threads.to_string();
        let arguments = ["bench-baseline".as_ref(), threads_text.as_ref(), ports.as_os_str()];
        let mut front = Process::start(own, own, &arguments, &folder.join("baseline.log"))?;
        let until = Instant::now() + TIMEOUT;
        loop {
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            let ports: Vec<u16> = text.lines().filter_map(|line| line.parse().ok()).collect();
            if ports.len() == threads && text.ends_with('\n') {
                self.addresses = ports.iter().map(|&port| (Ipv4Addr::LOCALHOST, port).into()).collect();
                break;
            }
            if front.exit_status()?.is_some() || Instant::now() > until {
                bail!("the baseline does not start:\n{}", front.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.fronts = vec![front];
        Ok(())
    }

    /// The configuration of client `number`, which subscribes to the subjects with the indices `wanted`.
    pub fn client_config(
        &self,
        number: usize,
        subjects: &[String],
        wanted: &[usize],
        settings: &Settings,
    ) -> anyhow::Result<ClientConfig> {
        let dialect = self.target.dialect();
        let token = match dialect {
            Dialect::Native | Dialect::StockAgent | Dialect::Vocabulary | Dialect::Centrifugo => {
                self.token(&format!("user-{number}"))?
            }
            Dialect::Nats | Dialect::Baseline => String::new(),
        };
        let channel = |&subject: &usize| match &self.target {
            Target::Baseline => subject.to_string(),
            Target::NatsServer | Target::Tidegate { .. } | Target::Centrifugo { .. } => {
                subjects[subject].clone()
            }
            Target::StockAgent { .. } => item(&subjects[subject]).to_owned(),
            Target::Vocabulary { vocabulary, .. } => vocabulary.item(&subjects[subject]).to_owned(),
        };
        Ok(ClientConfig {
            address: self.address(number),
            dialect,
            path: self
                .target
                .custom_vocabulary()
                .map(|vocabulary| vocabulary.path.clone())
                .unwrap_or_default(),
            token,
            channels: wanted.iter().map(channel).collect(),
            compress: settings.compress && dialect != Dialect::Baseline,
            receive_buffer: 0,
            tls: settings.tls.as_ref().map(|tls| Arc::clone(&tls.client)),
        })
    }

    /// The address that client `number` connects to.
    pub fn address(&self, number: usize) -> SocketAddr {
        self.addresses[number % self.addresses.len()]
    }

    /// A token for one user, valid for a day.
    fn token(&self, user: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let claims = json!({ "sub": user, "role": "user", "iat": now, "exp": now + 86_400 });
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("main".to_owned());
        let key = EncodingKey::from_secret(self.key.as_bytes()).context("cannot use the key")?;
        jsonwebtoken::encode(&header, &claims, &key).context("cannot sign a token")
    }

    /// Where producers publish.
    pub fn destination(&self) -> Destination {
        match self.target {
            Target::Baseline => Destination::Baseline(self.addresses.clone()),
            Target::NatsServer
            | Target::Tidegate { .. }
            | Target::Centrifugo { .. }
            | Target::StockAgent { .. }
            | Target::Vocabulary { .. } => Destination::Nats(self.nats_address),
        }
    }

    pub fn nats_pid(&self) -> Option<u32> {
        self.nats.as_ref().map(Process::pid)
    }

    /// The servers in front of nats-server: Tidegate's nodes, or the baseline.
    pub fn front_pids(&self) -> Vec<u32> {
        self.fronts.iter().map(Process::pid).collect()
    }

    /// The process that the clients connect to. Of several nodes, the first.
    pub fn client_facing_pid(&self) -> anyhow::Result<u32> {
        self.front_pids().first().copied().or_else(|| self.nats_pid()).context("no server is running")
    }

    pub fn is_tidegate(&self) -> bool {
        self.target.program().is_some()
    }

    /// CPU time used so far by nats-server, and by the server in front of it.
    pub fn cpu(&self) -> anyhow::Result<(Duration, Duration)> {
        let fronts = self.front_pids().into_iter().map(process_usage::cpu).sum::<anyhow::Result<_>>()?;
        Ok((self.nats_pid().map_or(Ok(Duration::ZERO), process_usage::cpu)?, fronts))
    }

    /// Resident memory in bytes of nats-server, and of the server in front of it.
    pub fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let fronts = self.front_pids().into_iter().map(process_usage::resident).sum::<anyhow::Result<_>>()?;
        Ok((self.nats_pid().map_or(Ok(0), process_usage::resident)?, fronts))
    }

    /// The HTTP status of Tidegate's `/readyz`.
    pub fn readyz(&self) -> anyhow::Result<u16> {
        Ok(http_get(self.addresses[0], "/readyz", self.tls.as_ref())?.0)
    }

    /// Number of subscriptions on nats-server.
    pub fn nats_subscriptions(&self) -> anyhow::Result<u64> {
        let (_, body) = http_get(self.monitor, "/subsz", None)?;
        let subscriptions: Value = serde_json::from_str(&body).context("nats-server's /subsz is not JSON")?;
        subscriptions["num_subscriptions"].as_u64().context("nats-server's /subsz has no num_subscriptions")
    }

    /// Number of lines in Tidegate's log that contain all these words.
    pub fn count_log_lines(&self, words: &[&str]) -> usize {
        let log: String = self.fronts.iter().map(Process::log).collect();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

/// The last token of a subject.
fn item(subject: &str) -> &str {
    subject.rsplit('.').next().unwrap_or_default()
}

/// Sends a GET request, over TLS if the server's certificate is given. Returns the status and the body of the response.
fn http_get(address: SocketAddr, path: &str, tls: Option<&Tls>) -> anyhow::Result<(u16, String)> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = match tls {
        None => exchange(stream, &request)?,
        Some(tls) => exchange(StreamOwned::new(tls::session(&tls.client)?, stream), &request)?,
    };
    let status =
        answer.get(9..12).and_then(|status| status.parse().ok()).context("the response is not HTTP")?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// Sends a request, and reads until the server closes the connection.
fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn wait_until_listening(address: SocketAddr) -> anyhow::Result<()> {
    let until = Instant::now() + TIMEOUT;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > until {
            bail!("nothing listens on {address} after {TIMEOUT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Free loopback ports. All are bound before any is released, so that they differ.
fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let mut held = Vec::new();
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let addresses: Vec<_> = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    addresses.try_into().map_err(|_| anyhow::anyhow!("there are too few free ports"))
}

fn random_key() -> anyhow::Result<String> {
    let mut key = String::new();
    for _ in 0..4 {
        let random = getrandom::u64().context("cannot get random numbers from the system")?;
        key.push_str(&format!("{random:016x}"));
    }
    Ok(key)
}
