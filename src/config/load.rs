//! Loading: all sources are read, merged and checked, and become a `Config`, or the list of every mistake in them.

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostics::Findings;
use tidegate_document::node::Node;
use tidegate_document::quote::quoted;

use crate::config::Config;
use crate::config::auth::AuthConfig;
use crate::config::class;
use crate::config::compare;
use crate::config::endpoint;
use crate::config::http::HttpConfig;
use crate::config::keys::KnownKeys;
use crate::config::limits::Limits;
use crate::config::log::LogConfig;
use crate::config::mistake::Mistakes;
use crate::config::nats::NatsConfig;
use crate::config::reader::ConfigReader;
use crate::config::role;
use crate::config::server::ServerConfig;
use crate::config::source;
use crate::config::source::Sources;
use crate::config::table::ConfigTable;

/// A configuration without mistakes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration itself.
    pub config: Config,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// The file that was read, or `defaults`.
    pub origin: String,
}

/// Reads, merges and checks all of `sources`.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    load_and_inspect(sources, |_| Vec::new())
}

/// The same, with the mistakes that `inspect` finds in the files that the configuration names.
pub fn load_and_inspect(
    sources: &Sources,
    inspect: impl FnOnce(&Config) -> Vec<Diagnostic>,
) -> Result<Loaded, Mistakes> {
    let keys = known_keys();
    let gathered = source::gather(sources, &keys).map_err(Mistakes)?;
    let origin = gathered.file.as_deref().map_or_else(|| "defaults".to_owned(), source::shown);
    let reader = ConfigReader::new(&gathered.root, &origin, keys);
    gathered.mistakes.into_iter().for_each(|mistake| reader.diagnostics.add(mistake));
    let mut config = read(&reader);
    take_port(&mut config, sources, &reader);
    for mistake in inspect(&config) {
        // What cannot be opened has been refused already.
        if !reader.diagnostics.refuses(&mistake.key) {
            reader.diagnostics.at_key(mistake);
        }
    }
    let Findings { errors, warnings } = reader.diagnostics.finish();
    if errors.is_empty() { Ok(Loaded { config, warnings, origin }) } else { Err(Mistakes(errors)) }
}

/// A reading of nothing asks for every key.
pub(super) fn known_keys() -> KnownKeys {
    let nothing = Node::default();
    let survey = ConfigReader::survey(&nothing);
    read(&survey);
    survey.keys().clone()
}

fn read(reader: &ConfigReader<'_>) -> Config {
    ConfigTable::root(reader, |root| {
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
fn take_port(config: &mut Config, sources: &Sources, reader: &ConfigReader<'_>) {
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
                let cure = "give the endpoint another port, or leave out its listen";
                reader.diagnostics.add(Diagnostic::error("http.listen", problem, cure).with_origin(name));
            }
        }
        Err(_) => {
            let problem = format!("{} is not a port", quoted(value));
            let cure = "write a whole number from 0 to 65535, 0 for any free port";
            reader.diagnostics.add(Diagnostic::error("http.listen", problem, cure).with_origin(name));
        }
    }
}
