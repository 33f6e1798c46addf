//! What `tidegate dev` prints: addresses, tokens and commands that work with the loaded configuration.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::model::CompiledVocabulary;

use crate::app::App;
use crate::cli::dev::tokens;
use crate::cli::dev::tokens::PrintedToken;
use crate::config::Config;
use crate::config::endpoint::EndpointConfig;
use crate::config::endpoint::VocabularyFile;
use crate::config::listen_address::ListenAddress;

/// Publications to try, for those frontends that have their subjects. The user is that of the first token.
const PUBLICATIONS: [(&str, &str); 10] = [
    ("prices.AAPL", r#"{"symbol":"AAPL","price":190.1,"change":1.2,"change_pct":0.63}"#),
    ("predictions.AAPL", r#"{"predicted_price":195.5,"confidence":0.85}"#),
    ("signals", r#"{"symbol":"AAPL","signal":"buy","action":"buy","confidence":0.85}"#),
    ("alerts", r#"{"id":"a1","type":"price_alert","symbol":"AAPL","message":"over 190","severity":"high"}"#),
    ("room.market_data", r#"{"symbol":"AAPL","price":190.1,"change":1.2}"#),
    ("system.notifications", r#"{"id":"n1","title":"hi","message":"for all","type":"info"}"#),
    ("user.demo.notifications", r#"{"id":"n2","title":"hi","message":"for you","type":"info"}"#),
    ("user.demo.balance_update", r#"{"new_balance":45000.5}"#),
    ("user.demo.earnings", r#"{"portfolio_value":100000,"daily_pnl":250}"#),
    ("admin.users", r#"{"online":42}"#),
];
/// Those for the native vocabulary, whose subjects are those of the demo page.
const NATIVE: [&str; 3] = ["prices.AAPL", "user.demo.notifications", "admin.users"];
const DEFAULT_NATS: &str = "nats://127.0.0.1:4222";

pub(super) struct Banner<'b> {
    pub(super) app: &'b App,
    pub(super) config: &'b Config,
    pub(super) tokens: &'b [PrintedToken],
    /// Whether the demo has added roles to the configuration.
    pub(super) has_demo_roles: bool,
    /// Whether the demo publishes prices.
    pub(super) publishes: bool,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nats = self.nats_url();
        writeln!(
            out,
            "\nTidegate dev, for trying things out. Anyone with one of these tokens can connect: do not expose it.\n"
        )?;
        self.put_pages(out)?;
        self.put_sockets(out)?;
        writeln!(out, "  nats   {nats}")?;
        for token in self.tokens {
            let only = if token.is_for_calls_only() { ", HTTP calls only" } else { "" };
            writeln!(out, "  token  {}  {} (role {}{only})", token.text, token.user, token.role)?;
        }
        self.put_roles(out)?;
        self.put_publications(out)?;
        if self.publishes {
            writeln!(out, "\nDemo data is published all the time: on prices.<symbol>, and now and then on")?;
            writeln!(out, "user.demo.notifications and admin.users.")?;
        } else {
            writeln!(out, "\nNothing is published into this NATS. With --demo-data, demo data is.")?;
        }
        writeln!(out, "\nCtrl-C stops everything.\n")
    }
}

impl Banner<'_> {
    fn nats_url(&self) -> &str {
        self.config.nats.urls.first().map_or("", String::as_str)
    }

    fn endpoints(&self) -> impl Iterator<Item = (&EndpointConfig, Option<&CompiledVocabulary>)> {
        self.config.endpoints.iter().map(|endpoint| {
            (endpoint, endpoint.file.as_ref().map(|VocabularyFile(vocabulary)| &**vocabulary))
        })
    }

    /// The address of an endpoint, for this machine's clients.
    fn address(&self, endpoint: &EndpointConfig) -> String {
        let listen = endpoint.listen.as_ref();
        let own = self.app.endpoint_addresses.iter().find(|(configured, _)| Some(configured) == listen);
        match own.map_or(&self.app.address, |(_, local)| local) {
            // A browser cannot open the address for "all interfaces".
            ListenAddress::Tcp(address) if address.ip().is_unspecified() => {
                SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())).to_string()
            }
            address @ (ListenAddress::Tcp(_) | ListenAddress::Unix(_)) => address.to_string(),
        }
    }

    fn scheme<'s>(&self, endpoint: &EndpointConfig, [plain, tls]: [&'s str; 2]) -> &'s str {
        if self.config.uses_tls(endpoint.listen.as_ref()) { tls } else { plain }
    }

    fn put_pages(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_sockets = || self.tokens.iter().filter(|token| !token.is_for_calls_only());
        for (endpoint, vocabulary) in self.endpoints() {
            let (address, http) = (self.address(endpoint), self.scheme(endpoint, ["http", "https"]));
            match vocabulary {
                None if endpoint.listen.is_none() => {
                    let all: Vec<String> =
                        with_sockets().map(|token| format!("token={}", token.text)).collect();
                    writeln!(out, "  page   {http}://{address}/#{}", all.join("&"))?;
                }
                None => {}
                Some(vocabulary) => {
                    let token = with_sockets().next().map_or("", |token| &*token.text);
                    writeln!(out, "  page   {http}://{address}/console/{}#token={token}", vocabulary.name)?;
                }
            }
        }
        Ok(())
    }

    fn put_sockets(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.tokens.first().map_or("demo", |token| &*token.user);
        let mut printed = BTreeSet::new();
        for (endpoint, vocabulary) in self.endpoints() {
            let (address, ws) = (self.address(endpoint), self.scheme(endpoint, ["ws", "wss"]));
            for (at, path) in endpoint.paths().enumerate() {
                let url = format!("{ws}://{address}{}", filled(path, user));
                write!(out, "  socket {url}")?;
                let is_new = printed.insert(url);
                let needed = vocabulary.filter(|vocabulary| vocabulary.is_subprotocol_required || !is_new);
                if let Some(name) = needed.and_then(|vocabulary| vocabulary.subprotocols.first()) {
                    write!(out, "  subprotocol {name}")?;
                }
                let rule = vocabulary.and_then(|vocabulary| vocabulary.paths.get(at));
                if let Some(name) = rule.and_then(|rule| rule.token_query.as_deref()) {
                    write!(out, "  ?{name}=<token>")?;
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }

    /// What the roles are, if this is not what the configuration says, and who needs no token.
    fn put_roles(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_demo_roles {
            writeln!(
                out,
                "\nTidegate dev has added the roles user and admin, or these rights of theirs: to subscribe to"
            )?;
            writeln!(
                out,
                "prices.*, user.<name>.> and demo.>, and the role admin to admin.*; to publish demo.>."
            )?;
        }
        let anonymous: BTreeSet<&str> = tokens::anonymous_roles(self.config).collect();
        for role in anonymous {
            writeln!(out, "\nClients without a token have the role {role}.")?;
        }
        Ok(())
    }

    /// The commands of publications that clients can receive, each with the users that may.
    fn put_publications(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nats = self.nats_url();
        let server = if nats == DEFAULT_NATS { String::new() } else { format!("-s {nats} ") };
        let is_shown = |subject: &str| {
            self.endpoints().any(|(_, vocabulary)| match vocabulary {
                None => NATIVE.contains(&subject),
                Some(vocabulary) => vocabulary.delivers(subject),
            })
        };
        let readers =
            |subject| Pattern::parse(subject).map(|subject| self.readers(&subject)).unwrap_or_default();
        let lines = PUBLICATIONS.iter().map(|(subject, payload)| (subject, payload, readers(subject)));
        let mut lines =
            lines.filter(|(subject, _, readers)| is_shown(subject) && !readers.is_empty()).peekable();
        if lines.peek().is_some() {
            writeln!(out, "\nPublish a message, and watch it arrive in a page that has subscribed to it.")?;
        }
        let mut last = Vec::new();
        for (subject, payload, readers) in lines {
            if readers != last {
                writeln!(out, "\nFor {}:\n", readers.join(", "))?;
            }
            writeln!(out, "  nats pub {server}{subject} '{payload}'")?;
            last = readers;
        }
        Ok(())
    }

    /// Who may subscribe to a subject.
    fn readers(&self, subject: &Pattern) -> Vec<&str> {
        let of_tokens = self.tokens.iter().filter(|token| token.may_read(subject)).map(|token| &*token.user);
        let mut roles = tokens::anonymous_roles(self.config);
        let anonymous = roles.any(|role| tokens::may_anonymous_read(self.config, role, subject));
        of_tokens.chain(anonymous.then_some("clients without a token")).collect()
    }
}

/// A path with a value for each of its parameters.
fn filled(path: &str, user: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, name, after)) = parameter(rest) {
        filled.push_str(before);
        filled.push_str(if name == "symbol" { "AAPL" } else { user });
        rest = after;
    }
    filled + rest
}

/// The first parameter of a path, and the text before and after it.
fn parameter(path: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = path.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}
