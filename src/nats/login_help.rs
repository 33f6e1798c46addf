//! What to check if a server refuses a login.

use crate::config::nats::login::NatsLogin;

/// Where a login is from, and so where to mend it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LoginSource {
    Configuration,
    /// The flags of a command for operators.
    Flags,
}

/// The help for a login that a server has refused for this reason.
pub(super) fn login_help(login: &NatsLogin, source: LoginSource, reason: &str) -> String {
    if reason.to_ascii_lowercase().contains("expired") {
        return "the credentials have expired: create new ones, for example with `nsc generate creds`"
            .to_owned();
    }
    match (login, source) {
        (NatsLogin::None, LoginSource::Configuration) => {
            "this server requires a login: set nats.creds_file, nats.nkey_file, nats.user and nats.password, or nats.token"
                .to_owned()
        }
        (NatsLogin::None, LoginSource::Flags) => "log in as an operator, with --user or --creds".to_owned(),
        (NatsLogin::Password { .. }, LoginSource::Configuration) => {
            "check nats.user and nats.password (or NATS_USER and NATS_PASSWORD, or the login in nats.url) against the server's configuration"
                .to_owned()
        }
        (NatsLogin::Password { .. }, LoginSource::Flags) => {
            "check its password, and that the configuration of nats-server has this user".to_owned()
        }
        (NatsLogin::Token(_), _) | (_, LoginSource::Configuration) => {
            format!("check {} against the server's configuration", login_keys(login))
        }
        (NatsLogin::CredsFile(_) | NatsLogin::NkeyFile(_), LoginSource::Flags) => {
            "check that the configuration of nats-server has this user".to_owned()
        }
    }
}

/// The configuration keys of a login.
pub(super) fn login_keys(login: &NatsLogin) -> &'static str {
    match login {
        NatsLogin::None => "without a login",
        NatsLogin::CredsFile(_) => "nats.creds_file",
        NatsLogin::NkeyFile(_) => "nats.nkey_file",
        NatsLogin::Password { .. } => "nats.user and nats.password",
        NatsLogin::Token(_) => "nats.token",
    }
}
