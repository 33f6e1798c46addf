//! `tidegate dev`: a node, a NATS server, demo data, a web page and tokens, with one command and on this machine only.

mod banner;
mod tokens;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tidegate_document::node::Value;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::app;
use crate::app::App;
use crate::cli::common::Common;
use crate::cli::common::block_on;
use crate::cli::demo;
use crate::cli::dev::banner::Banner;
use crate::cli::dev::tokens::TokenUser;
use crate::cli::login;
use crate::cli::nats_server::NatsServer;
use crate::cli::output::print_text;
use crate::cli::serve;
use crate::cli::signals::Signals;
use crate::cli::signing_key::signing_key;
use crate::config;
use crate::config::Config;
use crate::config::auth::key::KeyConfig;
use crate::config::log::LogFormat;
use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::config::report::ConfigReport;
use crate::config::secret::Secret;
use crate::nats::client::Client;
use crate::net::listener::Listener;
use crate::telemetry;

/// The users of the demo, each with its role.
const USERS: [(&str, &str); 2] = [("demo", "user"), ("admin", "admin")];
/// What every user may subscribe to, and what administrators may in addition.
const SUBSCRIBE: [&str; 4] = ["prices.*", "prices.*.*", "user.{sub}.>", "demo.>"];
const ADMIN: &str = "admin.*";
/// Where every user may publish and request.
const PUBLISH: &str = "demo.>";
/// The origin of settings that the command has changed.
const COMMAND: &str = "tidegate dev";

/// The arguments of `tidegate dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(flatten)]
    common: Common,
    /// Use a running NATS server instead of starting one.
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
    /// With --nats-url, publish the demo prices into that server too.
    #[arg(long, requires = "nats_url")]
    demo_data: bool,
    /// Publish the demo prices as this user of NATS: Tidegate's own may have no right to. @FILE names a file that
    /// contains USER:PASSWORD.
    #[arg(long, value_name = "USER:PASSWORD", value_parser = login::password, requires = "demo_data")]
    demo_user: Option<NatsLogin>,
}

/// A configuration with what the demo needs.
struct Demo {
    config: Config,
    /// The users that get a token.
    users: Vec<TokenUser>,
    /// Whether it has roles that the configuration lacks, or more rights for them.
    has_demo_roles: bool,
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
    // The demo adds a key and roles and lets its own pages in, so warnings about missing ones do not apply.
    let is_added = |key: &str| ["auth.key", "role", "http.public_url"].contains(&key);
    for warning in loaded.warnings.iter().filter(|warning| !is_added(&warning.key)) {
        warn!("{warning}");
    }
    let publishes = server == NatsFrom::Started || args.demo_data;
    let login = args.demo_user.as_ref().unwrap_or(&loaded.config.nats.login).clone();
    block_on(dev(loaded.config, loaded.report, server, publishes.then_some(login)))
}

/// With `producer`, publishes the demo data with this login.
async fn dev(
    config: Config,
    report: ConfigReport,
    server: NatsFrom,
    producer: Option<NatsLogin>,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let supervisor = TaskTracker::new();
    let mut demo = with_demo(config.clone())?;
    let mut report = report_of_demo(report, &config, &demo.config);
    if server == NatsFrom::Started {
        let program = config::nats_server_program();
        let start = NatsServer::start(program.as_deref());
        let Some(server) = signals.unless_ended(start).await? else { return Ok(()) };
        report.set_by_command(COMMAND, "nats.url", Value::Text(server.url()));
        demo.config.nats = NatsConfig { urls: vec![server.url()], ..demo.config.nats };
        supervisor.spawn(server.supervise(stop.clone()));
    }
    let result = Box::pin(with_nats(demo, report, producer, signals)).await;
    stop.cancel();
    supervisor.close();
    supervisor.wait().await;
    result
}

async fn with_nats(
    demo: Demo,
    report: ConfigReport,
    producer: Option<NatsLogin>,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let Demo { config, users, has_demo_roles } = demo;
    let tokens = users.into_iter().map(|user| user.with_token(&config)).collect::<Result<Vec<_>, _>>()?;
    let listen = &config.http.listen;
    let listener = match (Listener::bind(listen), listen.tcp()) {
        (Ok(listener), _) => listener,
        // The port is probably in use. For a demo, any other will do.
        (Err(_), Some(listen)) => app::listen(&SocketAddr::new(listen.ip(), 0).into(), "http.listen")?,
        (Err(_), None) => app::listen(listen, "http.listen")?,
    };
    let start = App::start(serve::options(config.clone(), report, listener));
    let Some(app) = signals.unless_ended(start).await? else { return Ok(()) };
    let publishes = producer.is_some();
    let producer = match producer {
        Some(login) => {
            let nats = NatsConfig { login, ..config.nats.clone() };
            Some(Client::connect(&nats, &format!("tidegate/{}/dev", app.node.name)).await?)
        }
        None => None,
    };
    print_text!("{}", Banner { app: &app, config: &config, tokens: &tokens, has_demo_roles, publishes });
    let Some(producer) = producer else { return serve::until_end(app, signals, ignore_hangup).await };
    tokio::select! {
        result = serve::until_end(app, signals, ignore_hangup) => result,
        () = demo::run(producer) => Ok(()),
    }
}

async fn ignore_hangup(_: &App) {
    warn!("SIGHUP ignored: `tidegate dev` does not load its configuration again");
}

/// Adds what the demo needs and the configuration lacks: a key, the web pages, pages of this machine, and for the demo page roles and classes. A
/// configuration of vocabularies keeps its roles as they are.
fn with_demo(config: Config) -> anyhow::Result<Demo> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("the system has no random numbers")?;
    let secret: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut config = config;
    config.http.console = true;
    config.http.allows_loopback_origins = true;
    // No waiting: after Ctrl-C, the demo should stop at once.
    config.server.drain = Duration::ZERO;
    config.server.lame_duck = Duration::ZERO;
    if signing_key(&config.auth).is_none() {
        let key = KeyConfig::hs256("dev", Secret::new(secret));
        match config.auth.issuers.first_mut() {
            Some(issuer) => issuer.keys.push(key),
            None => config.auth.keys.push(key),
        }
    }
    let has_native = config.endpoints.iter().any(|endpoint| endpoint.file.is_none());
    let has_demo_roles = has_native || config.roles.is_empty();
    let users = if has_demo_roles {
        add_roles(&mut config.roles)?;
        USERS.map(|(user, role)| TokenUser::new(user, role)).to_vec()
    } else {
        tokens::users_of(&config)
    };
    if config.classes.is_empty() {
        config.classes = demo_classes()?;
    }
    Ok(Demo { config, users, has_demo_roles })
}

/// The settings that the command has changed have it as their origin.
fn report_of_demo(mut report: ConfigReport, config: &Config, demo: &Config) -> ConfigReport {
    for (key, value) in [
        ("http.console", Value::Boolean(true)),
        ("server.drain_s", Value::Whole(0)),
        ("server.lame_duck_s", Value::Whole(0)),
    ] {
        report.set_by_command(COMMAND, key, value);
    }
    for (key, has_changed) in [
        ("auth.key", config.auth.keys != demo.auth.keys),
        ("auth.issuer", config.auth.issuers != demo.auth.issuers),
        ("role", config.roles != demo.roles),
        ("class", config.classes != demo.classes),
    ] {
        if has_changed {
            report.add_by_command(COMMAND, key);
        }
    }
    report
}

/// Adds the roles of the demo's users, and the rights that they lack.
fn add_roles(roles: &mut Vec<Role>) -> anyhow::Result<()> {
    for (user, name) in USERS {
        let at = roles.iter().position(|role| role.name == name).unwrap_or_else(|| {
            roles.push(Role { name: name.to_owned(), ..Role::default() });
            roles.len() - 1
        });
        let own = (user == "admin").then_some(ADMIN);
        let role = &mut roles[at];
        add(&mut role.subscribe, SUBSCRIBE.into_iter().chain(own))?;
        add(&mut role.publish, [PUBLISH].into_iter())?;
        add(&mut role.request, [PUBLISH].into_iter())?;
    }
    Ok(())
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
