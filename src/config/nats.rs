//! `[nats]`: where NATS is, and as whom Tidegate comes there.

pub mod login;

mod address;

use std::path::PathBuf;
use std::time::Duration;

use tidegate_document::diagnostic::Wrong;
use tidegate_document::quote::quoted;
use tidegate_protocol::subject::Pattern;

use crate::config::nats::login::NatsLogin;
use crate::config::reader::SetValue;
use crate::config::table::ConfigTable;

#[derive(Clone, Debug, PartialEq)]
pub struct NatsConfig {
    /// Without user, password or token; those are in `login`.
    pub urls: Vec<String>,
    pub login: NatsLogin,
    pub ping_interval: Duration,
    /// A file with the certificates of those who may vouch for a server, in place of the system's.
    pub ca_file: Option<PathBuf>,
    pub inbox_prefix: String,
    /// How long a request waits for its reply where the client names no time.
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

/// The addresses, and the login that is in them. A password in an address is never shown, not even a part
/// of it that a comma or a slash has split off: where there is an `@`, no address is.
fn urls(table: &ConfigTable<'_>) -> (Vec<String>, Option<SetValue<NatsLogin>>) {
    let Some(found) = table.texts("url") else {
        return (Vec::new(), None);
    };
    let SetValue { value: texts, key, layer } = found;
    let hidden = texts.iter().any(|element| element.text.contains('@'));
    let mut urls = Vec::new();
    let mut logins: Vec<NatsLogin> = Vec::new();
    for element in &texts {
        match address::parse(element.text) {
            Ok((url, login)) => {
                urls.push(url);
                logins.extend(login.filter(|login| !logins.contains(login)));
            }
            Err(Wrong { message, help }) => {
                let shown = if hidden { "the address".to_owned() } else { quoted(element.text) };
                table.mistake(&element.name, format!("{shown} {message}"), help);
            }
        }
    }
    if texts.is_empty() {
        table.mistake("url", "there is no address", "write one, such as \"nats://127.0.0.1:4222\"");
    }
    if logins.len() > 1 {
        let cure = "set nats.user and nats.password (or another login), and leave it out of the addresses";
        table.mistake("url", "the addresses have different users, passwords or tokens", cure);
    }
    (urls, logins.pop().map(|value| SetValue { value, key, layer }))
}

fn login(table: &ConfigTable<'_>, in_url: Option<SetValue<NatsLogin>>) -> NatsLogin {
    let creds =
        table.secret_file("creds_file").map(|file| file.map(|path| NatsLogin::CredsFile(path.into())));
    let nkey = table.secret_file("nkey_file").map(|file| file.map(|path| NatsLogin::NkeyFile(path.into())));
    let token = table.secret("token", "token_file").map(|token| token.map(NatsLogin::Token));
    let ways = [in_url, creds, nkey, password(table), token];
    let cure =
        "keep one way to log in to NATS: creds_file, nkey_file, user and password, token, or one in the url";
    table.strongest(ways.into_iter().flatten().collect(), cure).map_or(NatsLogin::None, |way| way.value)
}

fn password(table: &ConfigTable<'_>) -> Option<SetValue<NatsLogin>> {
    let user = table.given("user");
    let password = table.secret("password", "password_file");
    match (user, password) {
        (None, None) => None,
        (Some(user), None) => {
            let cure = "set nats.password too; where it is a token, set nats.token instead";
            table.refuse_found(&user, Wrong::new("there is a user without a password", cure));
            None
        }
        (None, Some(password)) => {
            let cure = "set nats.user too; where it is a token, set nats.token instead";
            table.refuse_found(&password, Wrong::new("there is a password without a user", cure));
            None
        }
        (Some(user), Some(password)) => Some(SetValue {
            layer: user.layer.max(password.layer),
            key: user.key,
            value: NatsLogin::Password { user: user.value, password: password.value },
        }),
    }
}

/// Clients are kept out of everything that starts with `_INBOX`, and so out of replies to Tidegate.
fn inbox_prefix(text: &str) -> Result<String, Wrong> {
    let fine = text.starts_with("_INBOX") && !text.contains(['*', '>']) && Pattern::parse(text).is_ok();
    let cure = "write one that starts with _INBOX, such as \"_INBOX_tidegate\", without wildcards";
    if fine { Ok(text.to_owned()) } else { Err(Wrong::new("is not a prefix for inboxes", cure)) }
}
