//! Loading: reads, merges and checks all sources; the result is a `Config`, or a list of everything wrong with it.

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostics::Findings;
use tidegate_document::node::Node;
use tidegate_document::quote::quoted;

use crate::config::Config;
use crate::config::admin::AdminConfig;
use crate::config::audit::AuditConfig;
use crate::config::auth::AuthConfig;
use crate::config::class;
use crate::config::compare;
use crate::config::endpoint;
use crate::config::http::HttpConfig;
use crate::config::invalid::InvalidConfig;
use crate::config::keys::KnownKeys;
use crate::config::limits::Limits;
use crate::config::listen_address::ListenAddress;
use crate::config::log::LogConfig;
use crate::config::nats::NatsConfig;
use crate::config::reader::ConfigReader;
use crate::config::report::ConfigReport;
use crate::config::role;
use crate::config::server::ServerConfig;
use crate::config::source;
use crate::config::source::Sources;
use crate::config::table::ConfigTable;
use crate::config::tls::TlsConfig;
use crate::config::traces::TracesConfig;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Settings that are allowed but probably not intended.
    pub warnings: Vec<Diagnostic>,
    /// The file that was read, or `defaults`.
    pub origin: String,
    /// Every setting and where it is from.
    pub report: ConfigReport,
}

/// Reads, merges and checks all of `sources`.
pub fn load(sources: &Sources) -> Result<Loaded, InvalidConfig> {
    load_and_inspect(sources, |_| Vec::new())
}

/// The same, with the errors and warnings that `inspect` returns for the files that the configuration names.
pub fn load_and_inspect(
    sources: &Sources,
    inspect: impl FnOnce(&Config) -> Vec<Diagnostic>,
) -> Result<Loaded, InvalidConfig> {
    let keys = known_keys();
    let gathered = source::gather(sources, &keys).map_err(InvalidConfig)?;
    let origin = gathered.file.as_deref().map_or_else(|| "defaults".to_owned(), source::shown);
    let reader = ConfigReader::new(&gathered.root, &origin, keys.clone());
    gathered.errors.into_iter().for_each(|error| reader.diagnostics.add(error));
    let mut config = read(&reader);
    let port_variable = apply_port(&mut config, sources, &reader);
    for diagnostic in inspect(&config) {
        // A file that cannot be opened has an error already.
        if !reader.diagnostics.refuses(&diagnostic.key) {
            reader.diagnostics.at_key(diagnostic);
        }
    }
    let Findings { errors, warnings } = reader.diagnostics.finish();
    if !errors.is_empty() {
        return Err(InvalidConfig(errors));
    }
    let file = gathered.file.as_deref().map(source::shown);
    let mut report = ConfigReport::new(&gathered.root, file, &keys, &config);
    if let Some(variable) = port_variable {
        report.set_by_variable("http.listen", variable, &config.http.listen);
    }
    Ok(Loaded { config, warnings, origin, report })
}

/// Reading an empty document asks for every key.
pub(super) fn known_keys() -> KnownKeys {
    let empty = Node::default();
    let survey = ConfigReader::survey(&empty);
    read(&survey);
    survey.keys().clone()
}

fn read(reader: &ConfigReader<'_>) -> Config {
    ConfigTable::root(reader, |root| {
        let roles = role::read(root);
        let http = root.section("http", HttpConfig::read);
        let nats = root.section("nats", NatsConfig::read);
        let auth = root.section("auth", |table| AuthConfig::read(table, &roles));
        let config = Config {
            nats,
            classes: class::read(root),
            endpoints: endpoint::read(root, &roles, &http, auth.encodes_users()),
            auth,
            http,
            admin: root.section("admin", AdminConfig::read),
            audit: root.section("audit", AuditConfig::read),
            traces: root.section("traces", TracesConfig::read),
            tls: root.section("tls", TlsConfig::read),
            roles,
            server: root.section("server", ServerConfig::read),
            limits: root.section("limits", Limits::read),
            log: root.section("log", LogConfig::read),
        };
        compare::sections(root, &config);
        config
    })
}

/// Hosting platforms set `PORT`. It replaces the port of `http.listen`, unless a flag sets that key. Returns the name of the
/// variable if it has done so.
fn apply_port<'s>(config: &mut Config, sources: &'s Sources, reader: &ConfigReader<'_>) -> Option<&'s str> {
    let variable = sources.environment.iter().find(|(name, value)| name == "PORT" && !value.is_empty());
    let (name, value) = variable?;
    if sources.flags.iter().any(|(key, _)| key == "http.listen") {
        return None;
    }
    match value.trim().parse() {
        Ok(port) => {
            // A Unix socket has no port.
            let ListenAddress::Tcp(address) = &mut config.http.listen else { return None };
            address.set_port(port);
            let listen = &config.http.listen;
            let taken = config.endpoints.iter().position(|endpoint| endpoint.listen.as_ref() == Some(listen));
            if let Some(at) = taken.filter(|_| port != 0) {
                let message = format!("{listen} is also the address of endpoint[{at}].listen");
                let help = "give the endpoint another port, or remove its `listen`";
                reader.diagnostics.add(Diagnostic::error("http.listen", message, help).with_origin(name));
            }
            Some(name)
        }
        Err(_) => {
            let message = format!("{} is not a port", quoted(value));
            let help = "write a whole number from 0 to 65535; 0 picks a free port";
            reader.diagnostics.add(Diagnostic::error("http.listen", message, help).with_origin(name));
            None
        }
    }
}
