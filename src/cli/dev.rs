//! `tidegate dev`: a node, a NATS server, demo data, a web page and tokens, with one command and on this machine only.
#![expect(clippy::print_stdout, reason = "commands print for people")]

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
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

/// The users with a token, each with its role.
const USERS: [(&str, &str); 2] = [("demo", "user"), ("admin", "admin")];
/// What every user may subscribe to, and what administrators may in addition.
const SUBSCRIBE: [&str; 4] = ["prices.*", "prices.*.*", "user.{sub}.>", "demo.>"];
const ADMIN: &str = "admin.*";
/// Where every user may publish and request.
const PUBLISH: &str = "demo.>";
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
    // The demo adds a key and roles, so warnings about missing ones do not apply.
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
    let tokens = USERS.map(|(user, role)| token(&config, user, role));
    let [demo, admin] = tokens;
    let tokens = [demo?, admin?];
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
    print!("{}", banner(&app, url, &tokens));
    let producer = Client::connect(&nats, &format!("tidegate/{}/dev", app.node.name)).await?;
    tokio::select! {
        result = serve::until_end(app, signals) => result,
        () = demo::run(producer) => Ok(()),
    }
}

/// Adds what the demo needs and the configuration lacks: a key, rights of its roles, classes, the web page.
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
    for (user, name) in USERS {
        let at = config.roles.iter().position(|role| role.name == name).unwrap_or_else(|| {
            config.roles.push(Role { name: name.to_owned(), ..Role::default() });
            config.roles.len() - 1
        });
        let own = (user == "admin").then_some(ADMIN);
        let role = &mut config.roles[at];
        add(&mut role.subscribe, SUBSCRIBE.into_iter().chain(own))?;
        add(&mut role.publish, [PUBLISH].into_iter())?;
        add(&mut role.request, [PUBLISH].into_iter())?;
    }
    if config.classes.is_empty() {
        config.classes = demo_classes()?;
    }
    Ok(config)
}

/// Adds the patterns that a role does not have yet.
fn add(rules: &mut RuleTemplates, patterns: impl Iterator<Item = &'static str>) -> anyhow::Result<()> {
    for pattern in patterns {
        if rules.allow.iter().all(|known| known.as_str() != pattern) {
            rules.allow.push(Template::parse(pattern)?);
        }
    }
    Ok(())
}

/// For prices, only the newest counts. Every notification is delivered, and before prices.
fn demo_classes() -> anyhow::Result<Vec<Class>> {
    let prices = Class { kind: Kind::Latest, snapshot: true, ..Class::plain(Pattern::parse("prices.>")?) };
    let notifications = Pattern::parse("user.*.notifications")?;
    let notifications = Class { snapshot: true, priority: Priority::High, ..Class::plain(notifications) };
    Ok(vec![prices, notifications])
}

/// A token that this configuration accepts.
fn token(config: &Config, user: &str, role: &str) -> anyhow::Result<String> {
    let auth = &config.auth;
    let key = auth.keys.first().context("there is no key to sign the token with")?;
    let longest = Some(auth.max_token_lifetime).filter(|longest| !longest.is_zero());
    let lifetime = longest.map_or(TOKEN_LIFETIME, |longest| longest.min(TOKEN_LIFETIME));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut claims = json!({ "sub": user, "iat": now.as_secs(), "exp": (now + lifetime).as_secs() });
    let kind = auth.token_types.first().map_or("", String::as_str);
    for (claim, value) in [
        ("iss", auth.issuer.as_str()),
        ("aud", &auth.audience),
        (&auth.token_type_claim, kind),
        (&auth.role_claim, role),
        (&auth.user_claim, user),
    ] {
        if !claim.is_empty() && !value.is_empty() {
            set(&mut claims, claim, json!(value));
        }
    }
    if auth.user_claim.ends_with("email") {
        set(&mut claims, &format!("{}_verified", auth.user_claim), json!(true));
    }
    let header = Some(kind).filter(|kind| !kind.is_empty() && auth.token_type_claim.is_empty());
    Ok(jwt::mint_hs256_as(header, &key.secret, Some(&key.kid), &claims)?)
}

/// Sets a claim, which may be a path with dots.
fn set(claims: &mut Value, claim: &str, value: Value) {
    let names: Vec<&str> = if claim.contains("://") { vec![claim] } else { claim.split('.').collect() };
    let place = names.into_iter().fold(claims, |claims, name| {
        if !claims.is_object() {
            *claims = json!({});
        }
        &mut claims[name]
    });
    *place = value;
}

fn banner(app: &App, nats_url: &str, [demo, admin]: &[String; 2]) -> String {
    // A browser cannot open the address for "all interfaces".
    let mut address = app.address;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let server = if nats_url == "nats://127.0.0.1:4222" { String::new() } else { format!("-s {nats_url} ") };
    format!(
        "
Tidegate dev, for trying things out. Anyone with one of these tokens can connect: do not expose it.

  page   http://{address}/#token={demo}&token={admin}
  socket ws://{address}/ws
  nats   {nats_url}
  token  {demo}
  admin  {admin}

Publish a message and watch it arrive in the page. The last one is only for the user admin:

  nats pub {server}prices.AAPL '{{\"price\":190.1}}'
  nats pub {server}user.demo.notifications '{{\"title\":\"hi\"}}'
  nats pub {server}admin.users '{{\"online\":42}}'

Ctrl-C stops everything.

"
    )
}
