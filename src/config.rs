//! The configuration: merges defaults, a file, environment variables and flags into a valid `Config`, or returns a
//! list of all errors. No other module reads the environment.

pub mod invalid;
pub mod secret;

pub mod admin;
pub mod allowed_origins;
pub mod audit;
pub mod auth;
pub mod endpoint;
pub mod http;
pub mod http_url;
pub mod limits;
pub mod listen_address;
pub mod log;
pub mod nats;
pub mod network;
pub mod origin;
pub mod server;
pub mod tls;
pub mod traces;

mod class;
mod role;

pub mod load;
pub mod report;
pub mod source;

mod browsers;
mod compare;

mod keys;
mod reader;
mod suggest;
mod table;
mod tree;

use tidegate_protocol::class::Class;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::template::Template;

use crate::config::admin::AdminConfig;
use crate::config::audit::AuditConfig;
use crate::config::auth::AuthConfig;
use crate::config::endpoint::EndpointConfig;
use crate::config::http::HttpConfig;
use crate::config::limits::Limits;
use crate::config::listen_address::ListenAddress;
use crate::config::log::LogConfig;
use crate::config::nats::NatsConfig;
use crate::config::server::ServerConfig;
use crate::config::tls::TlsConfig;
use crate::config::traces::TracesConfig;

/// The whole configuration of a node. Each module receives only its section.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub http: HttpConfig,
    pub admin: AdminConfig,
    pub audit: AuditConfig,
    pub traces: TracesConfig,
    pub tls: TlsConfig,
    pub nats: NatsConfig,
    pub auth: AuthConfig,
    pub roles: Vec<Role>,
    pub classes: Vec<Class>,
    pub endpoints: Vec<EndpointConfig>,
    pub server: ServerConfig,
    pub limits: Limits,
    pub log: LogConfig,
}

impl Config {
    /// The roles, none of which may use the subjects of services that decide for this node.
    pub fn closed_roles(&self) -> Vec<Role> {
        let connect = self.auth.service.as_ref().map(|service| &service.subject);
        let subjects =
            connect.into_iter().chain(self.classes.iter().filter_map(|class| class.authorize.as_ref()));
        let mut closed: Vec<_> =
            subjects.filter_map(|subject| Template::parse(subject.as_str()).ok()).collect();
        closed.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        closed.dedup();
        let mut roles = self.roles.clone();
        for role in &mut roles {
            for rules in [&mut role.subscribe, &mut role.publish, &mut role.request] {
                rules.deny.extend(closed.iter().cloned());
            }
        }
        roles
    }

    /// Whether the admin listener uses TLS: if other machines can reach it, and there is a certificate.
    pub fn admin_uses_tls(&self) -> bool {
        self.tls.is_on() && self.admin.public_address().is_some()
    }

    /// Whether a listener uses TLS; `None` is `http.listen`.
    pub fn uses_tls(&self, listen: Option<&ListenAddress>) -> bool {
        let (address, tls) = match listen {
            None => (&self.http.listen, self.http.tls),
            Some(listen) => {
                let mut here =
                    self.endpoints.iter().filter(|endpoint| endpoint.listen.as_ref() == Some(listen));
                (listen, here.all(|endpoint| endpoint.tls))
            }
        };
        self.tls.is_on() && tls && address.tcp().is_some()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: HttpConfig::default(),
            admin: AdminConfig::default(),
            audit: AuditConfig::default(),
            traces: TracesConfig::default(),
            tls: TlsConfig::default(),
            nats: NatsConfig::default(),
            auth: AuthConfig::default(),
            roles: role::defaults(),
            classes: Vec::new(),
            endpoints: vec![EndpointConfig::default()],
            server: ServerConfig::default(),
            limits: Limits::default(),
            log: LogConfig::default(),
        }
    }
}

/// The nats-server program for `tidegate dev`, if the environment names one.
pub fn nats_server_program() -> Option<String> {
    environment().into_iter().find(|(name, _)| name == "TIDEGATE_NATS_SERVER").map(|(_, program)| program)
}

/// The environment of this process, for `Sources`. Values that are not UTF-8 contain replacement characters, which
/// `load` rejects.
pub fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}

#[cfg(test)]
mod tests;
