//! What clients may say in the shipped vocabularies, with a place for a value of theirs.

/// What a message does when all is well.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Joins this channel.
    Joins(&'static str),
    /// Asks whoever answers on this subject.
    Asks(&'static str),
    /// Publishes on this subject.
    Publishes(&'static str),
    /// Leaves something; nothing is said.
    Leaves,
}

/// A message with a value of the client's, `$`, which becomes one token of a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) vocabulary: &'static str,
    pub(crate) target: &'static str,
    pub(crate) message: &'static str,
    /// A value that is good, as it is in `does`.
    pub(crate) good: &'static str,
    pub(crate) does: Does,
}

const fn place(
    vocabulary: &'static str,
    target: &'static str,
    message: &'static str,
    good: &'static str,
    does: Does,
) -> Place {
    Place { vocabulary, target, message, good, does }
}

/// Every place where a client's message names a token. Everybody is alice.
#[rustfmt::skip]
pub(crate) const PLACES: [Place; 19] = [
    place("ara", "/ws/predictions/AAPL", r#"{"type":"subscribe","symbol":$}"#, "MSFT", Does::Joins("predictions.MSFT")),
    place("ara", "/ws/market-data/AAPL", r#"{"type":"subscribe","symbol":$}"#, "MSFT", Does::Joins("market.MSFT")),
    place("ara", "/ws/predictions/AAPL", r#"{"type":"request_prediction","symbol":$}"#, "MSFT", Does::Asks("predict.MSFT")),
    place("financegpt", "/ws/alice", r#"{"type":"subscribe","symbols":[$]}"#, "INFY", Does::Joins("market.INFY")),
    place("financegpt", "/ws/alice", r#"{"type":"subscribe","events":[$]}"#, "other", Does::Joins("user.alice.other")),
    place("financegpt", "/ws/alice", r#"{"type":"unsubscribe","symbols":[$]}"#, "INFY", Does::Leaves),
    place("financegpt", "/ws/alice", r#"{"type":"unsubscribe","events":[$]}"#, "other", Does::Leaves),
    place("financegpt", "/ws/alice", r#"{"type":"execute_tool","tool":$}"#, "loan", Does::Asks("tools.loan.alice")),
    place("financegpt-mcp", "/", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":$}}"#, "loan", Does::Asks("tools.loan.alice")),
    place("graphql-ws", "/graphql", r#"{"id":"1","type":"subscribe","payload":{"operationName":"Prices","variables":{"symbol":$}}}"#, "AAPL", Does::Joins("prices.AAPL")),
    place("hoardrun", "/ws/notifications", r#"{"type":"join_room","room":$}"#, "crypto", Does::Joins("room.crypto")),
    place("hoardrun", "/ws/notifications", r#"{"type":"leave_room","room":$}"#, "crypto", Does::Leaves),
    place("sentio", "/ws/trade-signals", r#"{"action":"subscribe","symbols":[$]}"#, "AAPL", Does::Joins("signals.AAPL")),
    place("sentio", "/ws/trade-signals", r#"{"action":"unsubscribe","symbols":[$]}"#, "AAPL", Does::Leaves),
    place("sentio", "/ws/market-data", r#"{"action":"subscribe","symbols":[$]}"#, "AAPL", Does::Joins("market.AAPL")),
    place("sentio", "/ws/market-data", r#"{"action":"unsubscribe","symbols":[$]}"#, "AAPL", Does::Leaves),
    place("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"prices","symbols":[$]}"#, "AAPL", Does::Joins("prices.AAPL")),
    place("stock-agent", "/ws/page", r#"{"type":"unsubscribe","channel":"prices","symbols":[$]}"#, "AAPL", Does::Leaves),
    place("stock-agent", "/ws/page", r#"{"type":"webrtc","to":$,"data":1}"#, "bob", Does::Publishes("webrtc.bob.alice")),
];

/// Every message that names no token of its own and does something with a subject.
#[rustfmt::skip]
pub(crate) const FIXED: [Place; 14] = [
    place("financegpt", "/ws/alice", r#"{"type":"get_balance"}"#, "", Does::Asks("finance.alice.balance")),
    place("financegpt", "/ws/alice", r#"{"type":"get_transactions"}"#, "", Does::Asks("finance.alice.transactions")),
    place("financegpt", "/ws/alice", r#"{"type":"acknowledge_alert","alert_id":1}"#, "", Does::Asks("finance.alice.acknowledge")),
    place("financegpt-mcp", "/", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "", Does::Asks("mcp.tools")),
    place("graphql-ws", "/graphql", r#"{"id":"1","type":"subscribe","payload":{"operationName":"Notifications"}}"#, "", Does::Joins("user.alice.notifications")),
    place("sentio", "/ws/trade-signals", r#"{"action":"subscribe"}"#, "", Does::Joins("signals.*")),
    place("sentio", "/ws/market-data", r#"{"action":"subscribe"}"#, "", Does::Joins("market.*")),
    place("sentio", "/ws/earnings", r#"{"action":"subscribe"}"#, "", Does::Joins("user.alice.earnings")),
    place("sentio", "/ws/notifications", r#"{"action":"subscribe"}"#, "", Does::Joins("user.alice.notifications")),
    place("sentio", "/ws/admin", r#"{"action":"subscribe"}"#, "", Does::Joins("admin.*")),
    place("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"prices"}"#, "", Does::Joins("prices.*")),
    place("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"alerts"}"#, "", Does::Joins("alerts")),
    place("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"portfolio"}"#, "", Does::Joins("user.alice.portfolio")),
    place("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"webrtc"}"#, "", Does::Joins("webrtc.alice.*")),
];

impl Place {
    /// The message with this value, as JSON.
    pub(crate) fn with(&self, json: &str) -> String {
        self.message.replace('$', json)
    }

    /// The message as it should be.
    pub(crate) fn good(&self) -> String {
        self.with(&format!("\"{}\"", self.good))
    }
}

/// What is no token, as text: the values of `sub-01`, and those of `sub-02` as they are when nothing is decoded.
pub(crate) const NO_TOKENS: [&str; 22] = [
    "*",
    ">",
    "a.b",
    "a.>",
    "",
    " ",
    "\t",
    "a\r\nPUB x 1",
    "%2E",
    "%2A",
    "%3E",
    "%20",
    "%0D%0A",
    "%252E",
    "\0",
    "\u{ff0a}",
    "..",
    ".a",
    "a.",
    "AAPL/../admin.x",
    "a\u{2028}",
    "$SYS",
];

/// What is no token, as JSON: those, a text that is too long, and what is no text.
pub(crate) fn no_tokens() -> Vec<String> {
    let texts = NO_TOKENS.iter().map(|text| serde_json::Value::from(*text).to_string());
    let others = [
        "true",
        "false",
        "1.5",
        "{}",
        "[]",
        "[\"a\"]",
        "[[\"a\"]]",
        "{\"a\":\"b\"}",
        r#""\u002a""#,
        r#""\u002e""#,
    ];
    let long = format!("\"{}\"", "x".repeat(300));
    texts.chain(others.map(str::to_owned)).chain([long]).collect()
}

/// What belongs to NATS and to Tidegate (`sub-05`).
pub(crate) const SYSTEM: [&str; 13] = [
    "$SYS",
    "$JS",
    "$KV",
    "$O",
    "$SRV",
    "$MQTT",
    "_INBOX",
    "_INBOX_tidegate",
    "_live",
    "tidegate",
    "_R_",
    "_GR_",
    "$G",
];
