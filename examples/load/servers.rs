//! The servers under load: nats-server with its own WebSocket listener, and Tidegate, as processes of ours.

use std::fs::DirBuilder;
use std::fs::File;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::bail;
use serde_json::json;
use tidegate::auth::jwt;
use tidegate::config::secret::Secret;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every workload takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// The tidegate to measure. Default: the one that was built beside this program.
    #[arg(long, global = true, value_name = "FILE")]
    tidegate: Option<PathBuf>,
    /// The nats-server to use. Default: the one that nats/get-nats-server.sh finds.
    #[arg(long, global = true, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Threads of Tidegate; 0 for one per core.
    #[arg(long, global = true, default_value_t = 0)]
    shards: usize,
}

/// Both servers. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Servers {
    nats_server: PathBuf,
    nats: Child,
    tidegate: Child,
    /// Where nats-server speaks its own protocol.
    pub(crate) nats_address: SocketAddr,
    /// Where nats-server speaks it over a WebSocket.
    pub(crate) nats_websocket: SocketAddr,
    /// Where Tidegate listens.
    pub(crate) tidegate_address: SocketAddr,
    secret: Secret,
    /// Goes last: the servers write to it.
    folder: Folder,
}

/// A folder for configuration and logs that goes when its owner goes.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Servers {
    /// Starts both and waits until Tidegate is ready. `settings` is TOML that follows the configuration which all
    /// workloads share.
    pub(crate) async fn start(common: &Common, settings: &str) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tidegate-load-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).context("cannot make a folder for the servers")?;
        let folder = Folder(folder);
        let nats_server = nats_server(common).await?;
        let program = tidegate(common)?;
        let [nats_address, nats_websocket, tidegate_address] = free_addresses()?;
        let secret = Secret::new(random_secret()?);
        let configuration = nats_configuration(nats_address, nats_websocket);
        std::fs::write(folder.0.join("nats.conf"), configuration)?;
        let configuration = configuration_of(common, tidegate_address, nats_address, &secret) + settings;
        std::fs::write(folder.0.join("tidegate.toml"), configuration)?;
        let nats = start_nats(&nats_server, &folder.0)?;
        listens(nats_address).await?;
        listens(nats_websocket).await?;
        let tidegate = Command::new(&program)
            .args(["serve", "--config"])
            .arg(folder.0.join("tidegate.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.0.join("tidegate.log"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let servers = Self {
            nats_server,
            nats,
            tidegate,
            nats_address,
            nats_websocket,
            tidegate_address,
            secret,
            folder,
        };
        servers.wait_until_ready().await?;
        let (cores, version) = (std::thread::available_parallelism()?, servers.version().await?);
        println!(
            "{version} (pid {}) and {} (pid {}) on {cores} cores",
            servers.nats_pid()?,
            program.display(),
            servers.tidegate_pid()?
        );
        Ok(servers)
    }

    /// The process id of nats-server.
    pub(crate) fn nats_pid(&self) -> anyhow::Result<u32> {
        self.nats.id().context("nats-server has ended")
    }

    /// The process id of Tidegate.
    pub(crate) fn tidegate_pid(&self) -> anyhow::Result<u32> {
        self.tidegate.id().context("tidegate has ended")
    }

    /// Ends nats-server at once (SIGKILL).
    pub(crate) async fn kill_nats(&mut self) -> anyhow::Result<()> {
        Ok(self.nats.kill().await?)
    }

    /// Starts nats-server again where it was, and waits until it listens.
    pub(crate) async fn start_nats_again(&mut self) -> anyhow::Result<()> {
        self.nats = start_nats(&self.nats_server, &self.folder.0)?;
        listens(self.nats_address).await
    }

    /// A token for one user, good for a day.
    pub(crate) fn token(&self, user: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let claims = json!({ "sub": user, "role": "user", "iat": now, "exp": now + 86_400 });
        Ok(jwt::mint_hs256(&self.secret, Some("main"), &claims)?)
    }

    /// How many lines of Tidegate's log have all these words.
    pub(crate) fn logged(&self, words: &[&str]) -> anyhow::Result<usize> {
        let log = std::fs::read_to_string(self.folder.0.join("tidegate.log"))?;
        Ok(log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count())
    }

    /// What `/readyz` answers.
    pub(crate) async fn readyz(&self) -> anyhow::Result<u16> {
        let mut stream = TcpStream::connect(self.tidegate_address).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
        status.and_then(|status| status.parse().ok()).context("/readyz gives no HTTP answer")
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while !matches!(self.readyz().await, Ok(200)) {
            if Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.0.join("tidegate.log")).unwrap_or_default();
                bail!("tidegate is not ready after {} s:\n{log}", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn version(&self) -> anyhow::Result<String> {
        let output = Command::new(&self.nats_server).arg("--version").output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn nats_configuration(nats: SocketAddr, websocket: SocketAddr) -> String {
    format!(
        "host: 127.0.0.1\nport: {}\nwebsocket {{ host: 127.0.0.1, port: {}, no_tls: true, compression: false }}\n",
        nats.port(),
        websocket.port()
    )
}

/// What all workloads share. A feed that nobody wants any more goes at once, so that one round costs the next nothing.
fn configuration_of(common: &Common, tidegate: SocketAddr, nats: SocketAddr, secret: &Secret) -> String {
    format!(
        r#"
[http]
listen = "{tidegate}"
[nats]
url = "nats://{nats}"
[auth]
hmac_secret = "{}"
[server]
shards = {}
linger_ms = 0
[[role]]
name = "user"
subscribe = {{ allow = ["prices.*", "load.>"] }}
[[class]]
pattern = "prices.>"
kind = "latest"
[[class]]
pattern = "load.latest.>"
kind = "latest"
[[class]]
pattern = "load.>"
kind = "buffer"
"#,
        secret.expose(),
        common.shards
    )
}

fn start_nats(program: &Path, folder: &Path) -> anyhow::Result<Child> {
    Command::new(program)
        .arg("-c")
        .arg(folder.join("nats.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::options().create(true).append(true).open(folder.join("nats.log"))?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

async fn nats_server(common: &Common) -> anyhow::Result<PathBuf> {
    if let Some(program) = &common.nats_server {
        return Ok(program.clone());
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/nats/get-nats-server.sh");
    let output = Command::new(script).stderr(Stdio::inherit()).output().await?;
    if !output.status.success() {
        bail!("there is no nats-server: see above how to get one, or name it with --nats-server");
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// `target/release/examples/load` lies below `target/release/tidegate`.
fn tidegate(common: &Common) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?;
    let beside = beside.parent().and_then(Path::parent).map(|folder| folder.join("tidegate"));
    let program = common.tidegate.clone().or(beside).context("name a tidegate with --tidegate")?;
    if !program.exists() {
        bail!("there is no {}: build it with `cargo build --release`", program.display());
    }
    Ok(program)
}

async fn listens(address: SocketAddr) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() > until {
            bail!("nobody listens on {address} after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Three ports that nobody has now. All are held until all are known, so that they differ.
fn free_addresses() -> anyhow::Result<[SocketAddr; 3]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [listen()?, listen()?, listen()?];
    Ok([held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?])
}

fn random_secret() -> anyhow::Result<String> {
    let mut secret = String::new();
    for _ in 0..4 {
        let random = getrandom::u64().context("the system has no random numbers")?;
        secret.push_str(&format!("{random:016x}"));
    }
    Ok(secret)
}
