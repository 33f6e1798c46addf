//! The dialects of test clients: native, or one of two simple vocabularies without a message for gaps.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::VocabularyFile;
use tidegate::config::load::load;
use tidegate::config::source::Sources;
use tidegate_vocabulary::compile::compile;

use crate::support::recorder::Received;

/// Payloads contain their subject (`of`), because these vocabularies do not send all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Native,
    StockAgent,
    /// The socket for market data.
    Sentio,
}

impl Dialect {
    /// The name of its vocabulary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::StockAgent => "stock-agent",
            Self::Sentio => "sentio",
        }
    }

    /// Configures a node for the dialect, with its roles and classes.
    pub(crate) fn configure(self, config: &mut Config) {
        if self == Self::Native {
            return;
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vocabularies/dialects");
        let environment = vec![("TIDEGATE_AUTH__HMAC_SECRET".to_owned(), "x".repeat(32))];
        let file = Some(folder.join(format!("{}.config.toml", self.name())));
        let theirs = load(&Sources { file, environment, ..Sources::default() }).unwrap().config;
        let file = std::fs::read_to_string(folder.join(format!("{}.toml", self.name()))).unwrap();
        (config.roles, config.classes) = (theirs.roles, theirs.classes);
        config.endpoints = vec![EndpointConfig {
            path: String::new(),
            vocabulary: self.name().to_owned(),
            file: Some(VocabularyFile(Arc::new(compile(&file).unwrap().vocabulary))),
            ..EndpointConfig::default()
        }];
    }

    /// The path of its endpoint.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Native => "/ws",
            Self::StockAgent => "/ws/page",
            Self::Sentio => "/ws/market-data",
        }
    }

    /// The prefix of channels with a last value.
    pub(crate) fn latest(self) -> &'static str {
        match self {
            Self::Native | Self::StockAgent => "prices",
            Self::Sentio => "market",
        }
    }

    /// The message that subscribes to a channel.
    pub(crate) fn subscribe(self, channel: &str) -> Value {
        self.command("subscribe", channel)
    }

    /// The message that unsubscribes from a channel.
    pub(crate) fn unsubscribe(self, channel: &str) -> Value {
        self.command("unsubscribe", channel)
    }

    fn command(self, word: &str, channel: &str) -> Value {
        let (first, rest) = channel.split_once('.').unwrap_or((channel, "*"));
        let mut message = match self {
            Self::Native => return json!({ "type": word, "channel": channel }),
            Self::StockAgent => json!({ "type": word, "channel": first }),
            Self::Sentio => json!({ "action": word, "user_id": "alice" }),
        };
        if rest != "*" {
            message["symbols"] = json!([rest]);
        }
        message
    }

    /// A message that is answered at once.
    pub(crate) fn ping(self) -> Value {
        match self {
            Self::Native | Self::StockAgent => json!({ "type": "ping" }),
            Self::Sentio => json!({ "action": "ping", "user_id": "alice" }),
        }
    }

    /// What a message means.
    pub(crate) fn received(self, message: &Value) -> Received {
        match self {
            Self::Native => native(message),
            Self::StockAgent | Self::Sentio => match message["data"]["of"].as_str() {
                Some(subject) => Received::Message {
                    channel: subject.to_owned(),
                    subject: subject.to_owned(),
                    number: message["data"]["n"].as_u64().unwrap(),
                },
                None => Received::Other(message.to_string()),
            },
        }
    }
}

fn native(message: &Value) -> Received {
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let channel = text("channel");
    match message["type"].as_str() {
        Some("subscribed") => {
            let numbers = message["snapshot"].as_array().into_iter().flatten();
            let snapshot = numbers.map(|message| message["data"]["n"].as_u64().unwrap()).collect();
            Received::Subscribed { channel, snapshot }
        }
        Some("unsubscribed") => Received::Unsubscribed { channel },
        Some("message") => Received::Message {
            subject: message["subject"].as_str().map_or_else(|| channel.clone(), str::to_owned),
            number: message["data"]["n"].as_u64().unwrap_or_else(|| panic!("no number: {message}")),
            channel,
        },
        Some("gap") => Received::Gap { channel, cause: text("cause"), dropped: message["dropped"].as_u64() },
        Some("error") if !channel.is_empty() => Received::Refused { channel, code: text("code") },
        Some(_) | None => Received::Other(message.to_string()),
    }
}
