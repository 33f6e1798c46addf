//! `[nats]`: the addresses of NATS servers, and how Tidegate logs in.

pub mod login;

pub(super) mod address;

use std::path::PathBuf;
use std::time::Duration;

use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;
use tidegate_protocol::subject::Pattern;

use crate::config::nats::login::NatsLogin;
use crate::config::reader::SetValue;
use crate::config::table::ConfigTable;

#[derive(Clone, Debug, PartialEq)]
pub struct NatsConfig {
    /// Without a user, a password or a token; `login` has those.
    pub urls: Vec<String>,
    pub login: NatsLogin,
    pub ping_interval: Duration,
    /// A file with the CA certificates that verify the server's. `None`: the CAs that the system trusts.
    pub ca_file: Option<PathBuf>,
    pub inbox_prefix: String,
    /// How long a request waits for its reply if the client sets no timeout.
    pub request_timeout: Duration,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".to_owned()],
            login: NatsLogin::None,
            ping_interval: Duration::from_secs(5),
            ca_file: None,
            inbox_prefix: "_INBOX_tidegate".to_owned(),
            request_timeout: Duration::from_secs(2),
        }
    }
}

impl NatsConfig {
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        let default = Self::default();
        let (urls, login_in_url) = urls(table);
        Self {
            urls: if urls.is_empty() { default.urls } else { urls },
            login: login(table, login_in_url),
            ping_interval: table.duration("ping_interval_s", default.ping_interval, 1..=60),
            ca_file: table.readable_file("ca_file").map(|file| file.value.into()),
            inbox_prefix: table.parsed("inbox_prefix", default.inbox_prefix, inbox_prefix),
            request_timeout: table.duration("request_timeout_ms", default.request_timeout, 10..=300_000),
        }
    }
}

/// The addresses, and the login that they contain. No message shows a password from an address, or a part of one after
/// a comma or a slash: if any address may have a login, none is shown.
fn urls(table: &ConfigTable<'_>) -> (Vec<String>, Option<SetValue<NatsLogin>>) {
    let Some(found) = table.texts("url") else {
        return (Vec::new(), None);
    };
    let SetValue { value: texts, key, layer } = found;
    let hidden = texts.iter().any(|element| address::may_have_login(element.text));
    let mut urls = Vec::new();
    let mut logins: Vec<NatsLogin> = Vec::new();
    for element in &texts {
        match address::parse(element.text) {
            Ok((url, login)) => {
                urls.push(url);
                logins.extend(login.filter(|login| !logins.contains(login)));
            }
            Err(ValueError { message, help }) => {
                let shown = if hidden { "the address".to_owned() } else { quoted(element.text) };
                table.error(&element.name, format!("{shown} {message}"), help);
            }
        }
    }
    if texts.is_empty() {
        table.error("url", "there is no address", "write one, such as \"nats://127.0.0.1:4222\"");
    }
    if logins.len() > 1 {
        let help =
            "set nats.user and nats.password (or another login), and remove the logins from the addresses";
        table.error("url", "the addresses have different users, passwords or tokens", help);
    }
    (urls, logins.pop().map(|value| SetValue { value, key, layer }))
}

fn login(table: &ConfigTable<'_>, in_url: Option<SetValue<NatsLogin>>) -> NatsLogin {
    let creds =
        table.secret_file("creds_file").map(|file| file.map(|path| NatsLogin::CredsFile(path.into())));
    let nkey = table.secret_file("nkey_file").map(|file| file.map(|path| NatsLogin::NkeyFile(path.into())));
    let token = table.secret("token", "token_file").map(|token| token.map(NatsLogin::Token));
    let alternatives = [in_url, creds, nkey, password(table), token];
    let help = "keep one way to log in to NATS: creds_file, nkey_file, user and password, token, or a login in the url";
    let login = table.choose_last_layer(alternatives.into_iter().flatten().collect(), help);
    login.map_or(NatsLogin::None, |login| login.value)
}

fn password(table: &ConfigTable<'_>) -> Option<SetValue<NatsLogin>> {
    let user = table.non_empty("user");
    let password = table.secret("password", "password_file");
    match (user, password) {
        (None, None) => None,
        (Some(user), None) => {
            let help = "set nats.password too; if this is a token, set nats.token instead";
            table.reject(&user, ValueError::new("there is a user without a password", help));
            None
        }
        (None, Some(password)) => {
            let help = "set nats.user too; if this is a token, set nats.token instead";
            table.reject(&password, ValueError::new("there is a password without a user", help));
            None
        }
        (Some(user), Some(password)) => Some(SetValue {
            layer: user.layer.max(password.layer),
            key: user.key,
            value: NatsLogin::Password { user: user.value, password: password.value },
        }),
    }
}

/// The prefix must start with `_INBOX`: no client can use such subjects, so no client can read or fake replies to
/// Tidegate.
fn inbox_prefix(text: &str) -> Result<String, ValueError> {
    let valid = text.starts_with("_INBOX") && !text.contains(['*', '>']) && Pattern::parse(text).is_ok();
    let help = "write a subject that starts with _INBOX, without wildcards, such as \"_INBOX_tidegate\"";
    if valid { Ok(text.to_owned()) } else { Err(ValueError::new("is not a valid inbox prefix", help)) }
}
