//! `ConnectService`: the service that says who a client is, for credentials that none of the node's keys can verify: the
//! question, the answer, and all checks of the answer. The service may err, so nothing in an answer is trusted to be
//! well-formed.

pub mod connect_answer;
pub mod subscribe;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tidegate_protocol::identity::Identity;

use crate::auth::decisions::Decisions;
use crate::auth::decisions::ServiceQuestion;
use crate::config::auth::service::ServiceConfig;

/// The longest answer, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024;
/// How long an answer is kept that does not say how long.
const KEEP: Duration = Duration::from_secs(5);
/// The longest that an answer is kept.
const MAX_KEEP: Duration = Duration::from_secs(60);
/// One address may have at most `in_flight` divided by this number of questions at once, so that one address cannot use up
/// all of them.
const ADDRESSES_AT_ONCE: usize = 4;
/// The longest message of a refusal, in characters.
const MAX_MESSAGE: usize = 200;

/// The service that says who clients are, and its answers.
#[derive(Debug)]
pub struct ConnectService {
    pub config: ServiceConfig,
    pub decisions: Arc<Decisions<ConnectDecision>>,
}

/// What the service says about a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectDecision {
    Identity(Arc<Identity>),
    /// The message for the client.
    Refused(Arc<str>),
}

/// What the service learns of a client besides its credential.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientFacts {
    /// `None`: it is connected over a Unix socket.
    pub address: Option<IpAddr>,
    /// The origin of the page, if a page asks.
    pub origin: Option<String>,
    /// The listed headers, in lower case, each with its values.
    pub headers: Vec<(String, Vec<String>)>,
    /// The listed cookies. Empty if the page may not use cookies.
    pub cookies: Vec<(String, String)>,
}

impl ClientFacts {
    /// Whether the request has one of the listed headers or cookies, so that the service may know the client without a
    /// credential.
    pub fn may_identify(&self) -> bool {
        !self.headers.is_empty() || !self.cookies.is_empty()
    }
}

impl ConnectService {
    pub fn new(config: ServiceConfig) -> Self {
        let share = (config.in_flight / ADDRESSES_AT_ONCE).max(1);
        let decisions = Arc::new(Decisions::new(config.timeout, config.in_flight, share));
        Self { config, decisions }
    }

    /// The question about a client.
    pub fn question(&self, credential: Option<&str>, endpoint: &str, facts: &ClientFacts) -> ServiceQuestion {
        #[derive(Serialize)]
        struct ConnectQuestion<'q> {
            credential: Option<&'q str>,
            endpoint: &'q str,
            address: Option<IpAddr>,
            origin: Option<&'q str>,
            headers: serde_json::Map<String, serde_json::Value>,
            cookies: serde_json::Map<String, serde_json::Value>,
        }
        let question = ConnectQuestion {
            credential,
            endpoint,
            address: facts.address,
            origin: facts.origin.as_deref(),
            headers: facts
                .headers
                .iter()
                .map(|(name, values)| (name.clone(), values.clone().into()))
                .collect(),
            cookies: facts.cookies.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
        };
        // Texts and lists of texts can always be written as JSON.
        ServiceQuestion::new(self.config.subject.as_str(), serde_json::to_vec(&question).unwrap_or_default())
    }
}

fn check_size(answer: &[u8]) -> Result<(), String> {
    if answer.len() > MAX_ANSWER {
        return Err(format!("it has {} bytes; at most {MAX_ANSWER} are read", answer.len()));
    }
    Ok(())
}

/// What is wrong with an answer that cannot be read.
fn unreadable(error: &serde_json::Error) -> String {
    format!("it is not the JSON object that docs/TOKENS.md describes: {error}")
}

/// How long an answer is kept.
fn keep(seconds: Option<u64>) -> Result<Duration, String> {
    let keep = seconds.map_or(KEEP, Duration::from_secs);
    if keep > MAX_KEEP {
        return Err(format!("its `cache_s` is more than {}", MAX_KEEP.as_secs()));
    }
    Ok(keep)
}

/// The message of a refusal for the client: one line, not too long.
fn refusal(message: &str, default: &str) -> Arc<str> {
    let line: String = message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    let line = line.trim();
    if line.is_empty() { default.into() } else { line.into() }
}
