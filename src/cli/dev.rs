//! `tidegate dev`: a node, a NATS server, demo data, a web page and a token, with one command and on this machine only.
#![expect(clippy::print_stdout, reason = "commands print for people")]

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::app;
use crate::app::App;
use crate::auth::jwt;
use crate::cli::common::Common;
use crate::cli::common::block_on;
use crate::cli::demo;
use crate::cli::nats_server::NatsServer;
use crate::cli::serve;
use crate::cli::signals::Signals;
use crate::config;
use crate::config::Config;
use crate::config::auth::KeyAlgorithm;
use crate::config::auth::KeyConfig;
use crate::config::log::LogFormat;
use crate::config::nats::NatsConfig;
use crate::config::secret::Secret;
use crate::nats::client::Client;
use crate::telemetry;

const USER: &str = "demo";
const ROLE: &str = "demo";
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The arguments of `tidegate dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(flatten)]
    common: Common,
    /// Use a running NATS server instead of starting one.
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
}

/// Which NATS server to use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NatsFrom {
    /// Start one.
    Started,
    /// Use one that is running.
    Running,
}

/// Runs the command.
pub fn run(args: &DevArgs) -> ExitCode {
    let nats_url = args.nats_url.clone().map(|url| ("nats.url".to_owned(), url));
    let server = if nats_url.is_some() { NatsFrom::Running } else { NatsFrom::Started };
    let loaded = match args.common.load_with(nats_url) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    telemetry::init(&loaded.config.log, LogFormat::Text);
    telemetry::panics::install_hook();
    // The demo adds a key and a role, so warnings about missing ones do not apply.
    for warning in loaded.warnings.iter().filter(|warning| !["auth.key", "role"].contains(&&*warning.key)) {
        warn!("{warning}");
    }
    block_on(dev(loaded.config, server))
}

async fn dev(config: Config, server: NatsFrom) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let supervisor = TaskTracker::new();
    let mut config = with_demo(config)?;
    if server == NatsFrom::Started {
        let program = config::nats_server_program();
        let start = NatsServer::start(program.as_deref());
        let Some(server) = signals.unless_ended(start).await? else { return Ok(()) };
        config.nats = NatsConfig { urls: vec![server.url()], ..config.nats };
        supervisor.spawn(server.supervise(stop.clone()));
    }
    let url = config.nats.urls.first().cloned().unwrap_or_default();
    let result = with_nats(config, &url, signals).await;
    stop.cancel();
    supervisor.close();
    supervisor.wait().await;
    result
}

async fn with_nats(config: Config, url: &str, mut signals: Signals) -> anyhow::Result<()> {
    let token = token(&config)?;
    let listen = config.http.listen;
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        // The port is probably in use. For a demo, any other will do.
        Err(_) => {
            let any = SocketAddr::new(listen.ip(), 0);
            app::listen(any, "http.listen").await?
        }
    };
    let nats = config.nats.clone();
    let start = App::start(serve::options(config, listener));
    let Some(app) = signals.unless_ended(start).await? else { return Ok(()) };
    print!("{}", banner(&app, url, &token));
    let producer = Client::connect(&nats, &format!("tidegate/{}/dev", app.node.name)).await?;
    tokio::select! {
        result = serve::until_end(app, signals) => result,
        () = demo::run(producer) => Ok(()),
    }
}

/// Adds what the demo needs and the configuration lacks: a key, a role, classes, the web page.
fn with_demo(config: Config) -> anyhow::Result<Config> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("the system has no random numbers")?;
    let secret: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut config = config;
    config.http.console = true;
    // No waiting: after Ctrl-C, the demo should stop at once.
    config.server.drain = Duration::ZERO;
    config.server.lame_duck = Duration::ZERO;
    if config.auth.keys.is_empty() {
        let secret = Secret::new(secret);
        config.auth.keys = vec![KeyConfig { kid: "dev".to_owned(), algorithm: KeyAlgorithm::Hs256, secret }];
    }
    if config.roles.iter().all(|role| role.name != ROLE) {
        config.roles.push(demo_role()?);
    }
    if config.classes.is_empty() {
        config.classes = demo_classes()?;
    }
    Ok(config)
}

/// May subscribe to prices and its own notifications, and may do everything below `demo`.
fn demo_role() -> anyhow::Result<Role> {
    let rules = |allow: &[&str]| -> anyhow::Result<RuleTemplates> {
        let allow: Result<Vec<_>, _> = allow.iter().map(|text| Template::parse(text)).collect();
        Ok(RuleTemplates { allow: allow?, deny: Vec::new() })
    };
    Ok(Role {
        name: ROLE.to_owned(),
        subscribe: rules(&["prices.>", "user.{sub}.>", "demo.>"])?,
        publish: rules(&["demo.>"])?,
        request: rules(&["demo.>"])?,
        ..Role::default()
    })
}

/// For prices, only the newest counts. Every notification is delivered, and before prices.
fn demo_classes() -> anyhow::Result<Vec<Class>> {
    let prices = Class { kind: Kind::Latest, snapshot: true, ..Class::plain(Pattern::parse("prices.>")?) };
    let notifications = Pattern::parse("user.*.notifications")?;
    let notifications = Class { snapshot: true, priority: Priority::High, ..Class::plain(notifications) };
    Ok(vec![prices, notifications])
}

fn token(config: &Config) -> anyhow::Result<String> {
    let key = config.auth.keys.first().context("there is no key to sign the token with")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut claims = json!({ "sub": USER, "iat": now.as_secs(), "exp": (now + TOKEN_LIFETIME).as_secs() });
    for (name, value) in [("iss", &config.auth.issuer), ("aud", &config.auth.audience)] {
        if !value.is_empty() {
            claims[name] = json!(value);
        }
    }
    let mut role = json!(ROLE);
    for name in config.auth.role_claim.rsplit('.') {
        role = json!({ name: role });
    }
    if let (Some(claims), Some(role)) = (claims.as_object_mut(), role.as_object_mut()) {
        claims.append(role);
    }
    Ok(jwt::mint_hs256(&key.secret, Some(&key.kid), &claims)?)
}

fn banner(app: &App, nats_url: &str, token: &str) -> String {
    // A browser cannot open the address for "all interfaces".
    let mut address = app.address;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let server = if nats_url == "nats://127.0.0.1:4222" { String::new() } else { format!("-s {nats_url} ") };
    format!(
        "
Tidegate dev, for trying things out. Anyone with this token can connect: do not expose it.

  page   http://{address}/#token={token}
  socket ws://{address}/ws
  nats   {nats_url}
  token  {token}

Publish a message and watch it arrive in the page:

  nats pub {server}prices.AAPL '{{\"price\":190.1}}'
  nats pub {server}user.{USER}.notifications '{{\"title\":\"hi\"}}'

Ctrl-C stops everything.

"
    )
}
