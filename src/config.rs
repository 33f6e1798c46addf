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
pub mod network;
pub mod server;

mod class;
mod role;

mod compare;

mod reader;
mod source;
mod suggest;
mod table;

use crate::config::auth::AuthConfig;
use crate::config::endpoint::EndpointConfig;
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
use crate::protocol::permissions::Role;
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

/// What another module finds wrong with the file that a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub key: &'static str,
    pub problem: String,
    pub cure: String,
}

/// Reads, merges and checks all of `sources`.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    load_and_inspect(sources, |_| Vec::new())
}

/// The same, with the mistakes that `inspect` finds in the files that the configuration names.
pub fn load_and_inspect(
    sources: &Sources,
    inspect: impl FnOnce(&Config) -> Vec<Unfit>,
) -> Result<Loaded, Mistakes> {
    let keys = known_keys();
    let gathered = source::gather(sources, &keys).map_err(Mistakes)?;
    let origin = gathered.file.as_deref().map_or_else(|| "defaults".to_owned(), source::shown);
    let reader = Reader::new(origin.clone(), keys, gathered.mistakes);
    let mut config = read(&reader, Some(&gathered.tree));
    take_port(&mut config, sources, &reader);
    for Unfit { key, problem, cure } in inspect(&config) {
        // What cannot be opened has been refused already.
        if !reader.refuses(key) {
            reader.mistake(key.to_owned(), Wrong::new(problem, cure));
        }
    }
    let (mistakes, warnings) = reader.finish(&gathered.text);
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
        compare::sections(root, &config);
        config
    })
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
