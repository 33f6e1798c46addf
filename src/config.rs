//! The configuration: defaults, a file, the environment and flags become one complete and valid `Config`, or
//! a list of every mistake in them. Nothing else reads the environment.

pub mod mistake;
pub mod secret;

pub mod auth;
pub mod endpoint;
pub mod http;
pub mod limits;
pub mod log;
pub mod nats;
pub mod server;

mod class;
mod role;

mod reader;
mod source;
mod suggest;
mod table;

use crate::config::auth::AuthConfig;
use crate::config::endpoint::EndpointConfig;
use crate::config::endpoint::access;
use crate::config::endpoint::access::AccessConfig;
use crate::config::http::HttpConfig;
use crate::config::limits::Limits;
use crate::config::log::LogConfig;
use crate::config::mistake::Mistakes;
use crate::config::mistake::Warning;
use crate::config::mistake::Wrong;
use crate::config::mistake::quoted;
use crate::config::nats::NatsConfig;
use crate::config::reader::Keys;
use crate::config::reader::Reader;
use crate::config::server::ServerConfig;
use crate::config::table::Table;
use crate::config::table::table_of;
use crate::protocol::class::Class;
use crate::protocol::class::Classes;
use crate::protocol::permissions::Role;
use crate::protocol::permissions::StatsAccess;
use crate::protocol::subject::Pattern;
use ::config::Value;
use std::path::PathBuf;

/// Everything that a node is told from outside. Each module is given its section, never the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub http: HttpConfig,
    pub nats: NatsConfig,
    pub auth: AuthConfig,
    pub roles: Vec<Role>,
    pub classes: Vec<Class>,
    pub endpoints: Vec<EndpointConfig>,
    pub server: ServerConfig,
    pub limits: Limits,
    pub log: LogConfig,
}

/// What a configuration is made of, the stronger later. It holds secrets, and so cannot be printed.
#[derive(Clone, Default)]
pub struct Sources {
    /// `None`: `config.toml` in the working directory where it exists, else the defaults.
    pub file: Option<PathBuf>,
    pub environment: Vec<(String, String)>,
    /// Keys as in the file, `http.listen`, with their values.
    pub flags: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Warning>,
    /// The file that was read, or `defaults`.
    pub origin: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: HttpConfig::default(),
            nats: NatsConfig::default(),
            auth: AuthConfig::default(),
            roles: Vec::new(),
            classes: Vec::new(),
            endpoints: vec![EndpointConfig::default()],
            server: ServerConfig::default(),
            limits: Limits::default(),
            log: LogConfig::default(),
        }
    }
}

/// Reads, merges and checks all of `sources`.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let keys = known_keys();
    let gathered = source::gather(sources, &keys).map_err(Mistakes)?;
    let origin = gathered.file.as_deref().map_or_else(|| "defaults".to_owned(), source::shown);
    let reader = Reader::new(origin.clone(), keys, gathered.mistakes);
    let mut config = read(&reader, Some(&gathered.tree));
    take_port(&mut config, sources, &reader);
    let (mistakes, warnings) = reader.finish();
    if mistakes.is_empty() { Ok(Loaded { config, warnings, origin }) } else { Err(Mistakes(mistakes)) }
}

/// The nats-server program that `tidegate dev` is to start, if the environment names one.
pub fn nats_server_program() -> Option<String> {
    environment().into_iter().find(|(name, _)| name == "TIDEGATE_NATS_SERVER").map(|(_, program)| program)
}

/// The environment of this process, for `Sources`. What is not UTF-8 is recognised as such by `load`.
pub fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}

/// A reading of nothing asks for every key.
fn known_keys() -> Keys {
    let survey = Reader::survey();
    read(&survey, None);
    survey.keys()
}

fn read(reader: &Reader, tree: Option<&Value>) -> Config {
    Table::read(reader, String::new(), tree.and_then(table_of), |root| {
        let roles = role::read(root);
        let http = root.section("http", HttpConfig::read);
        let config = Config {
            nats: root.section("nats", NatsConfig::read),
            auth: root.section("auth", |table| AuthConfig::read(table, &roles)),
            classes: class::read(root),
            endpoints: endpoint::read(root, &roles, &http),
            http,
            roles,
            server: root.section("server", ServerConfig::read),
            limits: root.section("limits", Limits::read),
            log: root.section("log", LogConfig::read),
        };
        compare_sections(root, &config);
        config
    })
}

/// Rules between sections.
fn compare_sections(root: &Table<'_>, config: &Config) {
    let longest = config.limits.request_timeout_max;
    if config.nats.request_timeout > longest {
        let key = root.written_of("nats.request_timeout_ms", "limits.request_timeout_max_ms");
        let problem = format!(
            "nats.request_timeout_ms ({}) is more than limits.request_timeout_max_ms ({})",
            config.nats.request_timeout.as_millis(),
            longest.as_millis()
        );
        root.mistake(key, problem, "lower the first, or raise the second");
    }
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        if endpoint.access.api_keys && config.auth.api_keys.is_empty() {
            let text = "there is no [[auth.api_key]], so none is taken; write one, or remove the key";
            root.warning(&format!("endpoint[{at}].api_keys"), text);
        }
    }
    let classes = Classes::new(config.classes.clone());
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        let calls = endpoint.file.iter().flat_map(|file| file.0.last_values());
        // A narrower class keeps those of some of the channels.
        let keeps_some =
            |of: &Pattern| config.classes.iter().any(|class| class.snapshot && of.covers(&class.pattern));
        let keeps = |of: &Pattern, is_one: bool| classes.of(of).snapshot || !is_one && keeps_some(of);
        for (path, channels, _) in calls.filter(|(_, channels, is_one)| !keeps(channels, *is_one)) {
            let text = format!(
                "calls of {path} find no last values, because the class of {channels} keeps none; write a [[class]] with \
                 this pattern and snapshot = true"
            );
            root.warning(&format!("endpoint[{at}].vocabulary"), text);
        }
    }
    for (at, role) in config.roles.iter().enumerate() {
        if role.stats == StatsAccess::All && is_everybodys(&role.name, config) {
            let text = "everybody is told every client's id and channels";
            root.warning(&format!("role[{at}].stats"), text);
        }
    }
    let is_used = config.endpoints.iter().any(|endpoint| endpoint.access.anonymous_role.is_none());
    if let Some(text) = access::opening("clients", &config.auth.anonymous_role, &config.roles)
        && is_used
    {
        root.warning("auth.anonymous_role", text);
    }
    if lets_nobody_in(config) {
        let text = "there is neither a key for tokens nor an anonymous role, so every client is refused; write an \
                    [[auth.key]], set TIDEGATE_AUTH__HMAC_SECRET, or name an auth.anonymous_role";
        root.warning("auth.key", text);
    }
    if config.roles.is_empty() {
        root.warning(
            "role",
            "there is no [[role]], so no client may subscribe to anything; write at least one",
        );
    }
}

/// Whether a role is had without a credential.
fn is_everybodys(role: &str, config: &Config) -> bool {
    let named = |endpoint: &EndpointConfig| {
        let AccessConfig { anonymous_role, http_role, believe, .. } = &endpoint.access;
        let believed = believe.as_ref().map(|believe| believe.role.as_str());
        [anonymous_role.as_deref(), http_role.as_deref(), believed].contains(&Some(role))
    };
    config.auth.anonymous_role == role || config.endpoints.iter().any(named)
}

fn lets_nobody_in(config: &Config) -> bool {
    let AuthConfig { keys, api_keys, anonymous_role, .. } = &config.auth;
    let lets_somebody_in = |endpoint: &EndpointConfig| {
        let access = &endpoint.access;
        let role = access.anonymous_role.as_ref().unwrap_or(anonymous_role);
        !role.is_empty() || access.believe.is_some() || access.api_keys && !api_keys.is_empty()
    };
    keys.is_empty() && !config.endpoints.iter().any(lets_somebody_in)
}

/// `PORT`, as hosting platforms set it, replaces the port of whatever is listened on; only a flag is
/// stronger.
fn take_port(config: &mut Config, sources: &Sources, reader: &Reader) {
    let variable = sources.environment.iter().find(|(name, value)| name == "PORT" && !value.is_empty());
    let Some((name, value)) = variable else { return };
    if sources.flags.iter().any(|(key, _)| key == "http.listen") {
        return;
    }
    match value.trim().parse() {
        Ok(port) => {
            config.http.listen.set_port(port);
            let listen = config.http.listen;
            let taken = config.endpoints.iter().position(|endpoint| endpoint.listen == Some(listen));
            if let Some(at) = taken.filter(|_| port != 0) {
                let problem = format!("{listen} is endpoint[{at}].listen");
                let wrong = Wrong::new(problem, "give the endpoint another port, or leave out its listen");
                reader.mistake_from("http.listen", name, wrong);
            }
        }
        Err(_) => {
            let problem = format!("{} is not a port", quoted(value));
            let wrong = Wrong::new(problem, "write a whole number from 0 to 65535, 0 for any free port");
            reader.mistake_from("http.listen", name, wrong);
        }
    }
}

#[cfg(test)]
mod tests;
