//! The servers under load, as processes of ours: nats-server, Tidegate in front of it, or the floor.

pub mod process;
pub mod settings;
pub mod vocabulary;

use std::ffi::OsStr;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::bail;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use serde_json::Value;
use serde_json::json;

use crate::client::Wish;
use crate::client::dialect::Dialect;
use crate::producer::Outlet;
use crate::servers::process::Process;
use crate::servers::settings::Settings;
use crate::servers::vocabulary::Vocabulary;
use crate::usage;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This program, with nats-server behind it. The name tells several apart.
    Tidegate { name: String, program: PathBuf },
    /// The same, spoken to as the frontend of Stock Agent does: in a vocabulary that a file describes.
    Described { program: PathBuf },
    /// The same, with another vocabulary and a message that the bench adds to it.
    File { program: PathBuf, vocabulary: Vocabulary },
    /// nats-server's own WebSocket listener.
    Peer,
    /// Frames from memory to sockets.
    Floor,
}

impl Target {
    /// Its name in tables.
    pub fn name(&self) -> &str {
        match self {
            Self::Tidegate { name, .. } => name,
            Self::Described { .. } => "stock-agent",
            Self::File { vocabulary, .. } => &vocabulary.name,
            Self::Peer => "nats-server",
            Self::Floor => "floor",
        }
    }

    fn dialect(&self) -> Dialect {
        match self {
            Self::Tidegate { .. } => Dialect::Tidegate,
            Self::Described { .. } => Dialect::Described,
            Self::File { .. } => Dialect::Added,
            Self::Peer => Dialect::Nats,
            Self::Floor => Dialect::Floor,
        }
    }

    /// The program of Tidegate, if it is that.
    fn program(&self) -> Option<&Path> {
        match self {
            Self::Tidegate { program, .. } | Self::Described { program } | Self::File { program, .. } => {
                Some(program)
            }
            Self::Peer | Self::Floor => None,
        }
    }

    /// The vocabulary of somebody's file, if it speaks that.
    fn file(&self) -> Option<&Vocabulary> {
        match self {
            Self::File { vocabulary, .. } => Some(vocabulary),
            Self::Tidegate { .. } | Self::Described { .. } | Self::Peer | Self::Floor => None,
        }
    }

    /// The vocabulary that it speaks, if a file describes it: where it is kept, and its text.
    fn vocabulary(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Described { .. } => Some(("stock-agent.toml", settings::stock_agent())),
            Self::File { vocabulary, .. } => Some(("vocabulary.toml", vocabulary.text.clone())),
            Self::Tidegate { .. } | Self::Peer | Self::Floor => None,
        }
    }

    /// What these subjects are called in its vocabulary.
    pub fn subjects(&self, subjects: Vec<String>) -> Vec<String> {
        let Some(vocabulary) = self.file() else { return subjects };
        subjects.iter().map(|subject| vocabulary.subject(item(subject))).collect()
    }
}

/// What all servers are started with.
#[derive(Clone, Debug)]
pub struct Programs {
    pub nats_server: PathBuf,
    /// Ourselves: becomes the floor.
    pub own: PathBuf,
    /// For configurations and logs.
    pub folder: PathBuf,
}

/// The servers of one target. They end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    target: Target,
    programs: Programs,
    nats: Option<Process>,
    front: Option<Process>,
    /// Where clients go.
    addresses: Vec<SocketAddr>,
    /// Where nats-server speaks its own protocol, and where it tells of itself.
    nats_address: SocketAddr,
    monitor: SocketAddr,
    /// The key of all tokens. It is made for this run, and protects nothing.
    key: String,
}

impl Servers {
    /// Starts them and waits until they can be used. Somebody else may take a port between its being found free and
    /// its being used: then on others.
    pub fn start(programs: &Programs, target: &Target, settings: &Settings) -> anyhow::Result<Self> {
        for _ in 0..2 {
            if let Ok(servers) = Self::start_once(programs, target, settings) {
                return Ok(servers);
            }
        }
        Self::start_once(programs, target, settings)
    }

    fn start_once(programs: &Programs, target: &Target, settings: &Settings) -> anyhow::Result<Self> {
        let [nats_address, monitor, websocket, listen] = free_addresses()?;
        let mut servers = Self {
            target: target.clone(),
            programs: programs.clone(),
            nats: None,
            front: None,
            addresses: vec![websocket],
            nats_address,
            monitor,
            key: random_key()?,
        };
        if *target == Target::Floor {
            servers.start_floor(settings)?;
            return Ok(servers);
        }
        let configuration = settings::nats(nats_address, monitor, websocket, settings);
        std::fs::write(programs.folder.join("nats.conf"), configuration)?;
        servers.start_nats()?;
        listens(websocket)?;
        if let Some(program) = target.program() {
            servers.addresses = vec![listen];
            let also = target.file().map(|vocabulary| vocabulary.subject("*")).unwrap_or_default();
            let settings = &Settings { also, ..settings.clone() };
            let mut configuration = settings::tidegate(listen, nats_address, &servers.key, settings);
            if let Some((name, text)) = target.vocabulary() {
                let file = Self::file(programs, name, &text)?;
                configuration += &format!("[[endpoint]]\nvocabulary = \"{}\"\n", file.display());
            }
            std::fs::write(programs.folder.join("tidegate.toml"), configuration)?;
            servers.start_tidegate(program, settings)?;
        }
        Ok(servers)
    }

    /// Starts nats-server (again), and waits until it listens.
    pub fn start_nats(&mut self) -> anyhow::Result<()> {
        let Programs { nats_server, own, folder } = &self.programs;
        let configuration = folder.join("nats.conf");
        let arguments = ["-c".as_ref(), configuration.as_os_str()];
        let log = folder.join("nats.log");
        let _ = std::fs::remove_file(&log);
        let mut nats = Process::start(own, nats_server, &arguments, &log)?;
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.nats_address).is_err() {
            if let Some(status) = nats.has_ended()? {
                bail!("nats-server has ended ({status}):\n{}", nats.log());
            }
            if Instant::now() > until {
                bail!("nats-server does not listen after {PATIENCE:?}:\n{}", nats.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.nats = Some(nats);
        Ok(())
    }

    /// Ends nats-server at once (SIGKILL).
    pub fn kill_nats(&mut self) {
        self.nats = None;
    }

    fn start_tidegate(&mut self, program: &Path, settings: &Settings) -> anyhow::Result<()> {
        self.front = Some(self.start_node(program, settings, "tidegate", self.addresses[0])?);
        Ok(())
    }

    /// A node with the configuration of this name, once it is ready at this address.
    fn start_node(
        &self,
        program: &Path,
        settings: &Settings,
        name: &str,
        address: SocketAddr,
    ) -> anyhow::Result<Process> {
        let Programs { own, folder, .. } = &self.programs;
        let configuration = folder.join(format!("{name}.toml"));
        let limited = format!("ulimit -n {} && exec \"$0\" \"$@\"", settings.files);
        let mut arguments = vec![];
        if settings.files > 0 {
            arguments.extend([OsStr::new("-c"), OsStr::new(&limited), program.as_os_str()]);
        }
        arguments.extend(["serve".as_ref(), "--config".as_ref(), configuration.as_os_str()]);
        for set in &settings.set {
            arguments.extend([OsStr::new("--set"), OsStr::new(set)]);
        }
        let log = folder.join(format!("{name}.log"));
        let _ = std::fs::remove_file(&log);
        let started = if settings.files > 0 { Path::new("/bin/sh") } else { program };
        let mut node = Process::start(own, started, &arguments, &log)?;
        let until = Instant::now() + PATIENCE;
        while !matches!(http_get(address, "/readyz"), Ok((200, _))) {
            if let Some(status) = node.has_ended()? {
                bail!("{} has ended ({status}):\n{}", program.display(), node.log());
            }
            if Instant::now() > until {
                bail!("{} is not ready after {PATIENCE:?}:\n{}", program.display(), node.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(node)
    }

    /// Another node on the same NATS: where it listens. It ends when the process is dropped.
    pub fn start_another(&self, settings: &Settings) -> anyhow::Result<(SocketAddr, Process)> {
        let program = self.target.program().context("only Tidegate has nodes")?;
        let [listen, ..] = free_addresses()?;
        let configuration = settings::tidegate(listen, self.nats_address, &self.key, settings);
        std::fs::write(self.programs.folder.join("another.toml"), configuration)?;
        Ok((listen, self.start_node(program, settings, "another", listen)?))
    }

    /// Writes a file next to the servers' configurations, for these to name.
    pub fn file(programs: &Programs, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let file = programs.folder.join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    fn start_floor(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let Programs { own, folder, .. } = &self.programs;
        let threads = match settings.shards {
            0 => std::thread::available_parallelism()?.get(),
            shards => shards,
        };
        let ports = folder.join("floor.ports");
        let _ = std::fs::remove_file(&ports);
        let threads_text = threads.to_string();
        let arguments = ["bench-floor".as_ref(), threads_text.as_ref(), ports.as_os_str()];
        let mut front = Process::start(own, own, &arguments, &folder.join("floor.log"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&ports).unwrap_or_default();
            let ports: Vec<u16> = text.lines().filter_map(|line| line.parse().ok()).collect();
            if ports.len() == threads && text.ends_with('\n') {
                self.addresses = ports.iter().map(|&port| (Ipv4Addr::LOCALHOST, port).into()).collect();
                break;
            }
            if front.has_ended()?.is_some() || Instant::now() > until {
                bail!("the floor does not start:\n{}", front.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.front = Some(front);
        Ok(())
    }

    /// What the client of this number connects with, to hear these subjects, by their numbers among all.
    pub fn wish(
        &self,
        number: usize,
        subjects: &[String],
        wanted: &[usize],
        settings: &Settings,
    ) -> anyhow::Result<Wish> {
        let dialect = self.target.dialect();
        let token = match dialect {
            Dialect::Tidegate | Dialect::Described | Dialect::Added => {
                self.token(&format!("user-{number}"))?
            }
            Dialect::Nats | Dialect::Floor => String::new(),
        };
        let channel = |&subject: &usize| match &self.target {
            Target::Floor => subject.to_string(),
            Target::Peer | Target::Tidegate { .. } => subjects[subject].clone(),
            Target::Described { .. } => item(&subjects[subject]).to_owned(),
            Target::File { vocabulary, .. } => vocabulary.item(&subjects[subject]).to_owned(),
        };
        Ok(Wish {
            address: self.address(number),
            dialect,
            path: self.target.file().map(|vocabulary| vocabulary.path.clone()).unwrap_or_default(),
            token,
            channels: wanted.iter().map(channel).collect(),
            compress: settings.compress && dialect != Dialect::Floor,
            receive_buffer: 0,
        })
    }

    /// Where the client of this number goes.
    pub fn address(&self, number: usize) -> SocketAddr {
        self.addresses[number % self.addresses.len()]
    }

    /// A token for one user, good for a day.
    fn token(&self, user: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let claims = json!({ "sub": user, "role": "user", "iat": now, "exp": now + 86_400 });
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("main".to_owned());
        let key = EncodingKey::from_secret(self.key.as_bytes());
        jsonwebtoken::encode(&header, &claims, &key).context("cannot sign a token")
    }

    /// Where publications go.
    pub fn outlet(&self) -> Outlet {
        match self.target {
            Target::Floor => Outlet::Floor(self.addresses.clone()),
            Target::Peer | Target::Tidegate { .. } | Target::Described { .. } | Target::File { .. } => {
                Outlet::Nats(self.nats_address)
            }
        }
    }

    /// The processes whose cost counts: nats-server's, and that of what is in front of it.
    pub fn pids(&self) -> (Option<u32>, Option<u32>) {
        (self.nats.as_ref().map(Process::pid), self.front.as_ref().map(Process::pid))
    }

    /// The process that the clients' sockets belong to.
    pub fn facing(&self) -> anyhow::Result<u32> {
        let (nats, front) = self.pids();
        front.or(nats).context("no server runs")
    }

    /// Whether that is Tidegate.
    pub fn is_tidegate(&self) -> bool {
        self.target.program().is_some()
    }

    /// CPU that nats-server has used, and what is in front of it.
    pub fn cpu(&self) -> anyhow::Result<(Duration, Duration)> {
        let (nats, front) = self.pids();
        let cpu = |pid: Option<u32>| pid.map_or(Ok(Duration::ZERO), usage::cpu);
        Ok((cpu(nats)?, cpu(front)?))
    }

    /// Memory of nats-server, and of what is in front of it, in bytes.
    pub fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let (nats, front) = self.pids();
        let memory = |pid: Option<u32>| pid.map_or(Ok(0), usage::resident);
        Ok((memory(nats)?, memory(front)?))
    }

    /// What Tidegate's `/readyz` answers.
    pub fn readyz(&self) -> anyhow::Result<u16> {
        Ok(http_get(self.addresses[0], "/readyz")?.0)
    }

    /// How many subscriptions nats-server has.
    pub fn nats_subscriptions(&self) -> anyhow::Result<u64> {
        let (_, body) = http_get(self.monitor, "/subsz")?;
        let told: Value = serde_json::from_str(&body).context("nats-server's /subsz is no JSON")?;
        told["num_subscriptions"].as_u64().context("/subsz counts no subscriptions")
    }

    /// How many lines of Tidegate's log have all these words.
    pub fn logged(&self, words: &[&str]) -> usize {
        let log = self.front.as_ref().map(Process::log).unwrap_or_default();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

/// The last token of a subject.
fn item(subject: &str) -> &str {
    subject.rsplit('.').next().unwrap_or_default()
}

/// The status and the body of an answer.
fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).context("no HTTP answer")?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

fn listens(address: SocketAddr) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > until {
            bail!("nobody listens on {address} after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Four ports that no one has now. All are held until all are known, so that they differ.
fn free_addresses() -> anyhow::Result<[SocketAddr; 4]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [listen()?, listen()?, listen()?, listen()?];
    Ok([held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?, held[3].local_addr()?])
}

fn random_key() -> anyhow::Result<String> {
    let mut key = String::new();
    for _ in 0..4 {
        let random = getrandom::u64().context("the system has no random numbers")?;
        key.push_str(&format!("{random:016x}"));
    }
    Ok(key)
}
