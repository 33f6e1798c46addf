//! The messages that clients may send in the shipped vocabularies, with a placeholder for a value that the client
//! chooses.

/// The effect of a valid message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// Subscribes to these channels, separated by spaces. The last one has the client's value.
    Subscribes(&'static str),
    /// Sends a request on this subject.
    Requests(&'static str),
    /// Publishes on this subject.
    Publishes(&'static str),
    /// Unsubscribes, without a reply.
    Unsubscribes,
}

/// A message of a client. `$` is the value that becomes one token of a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub(crate) vocabulary: &'static str,
    pub(crate) target: &'static str,
    pub(crate) message: &'static str,
    /// A valid value, which `effect` contains.
    pub(crate) good: &'static str,
    pub(crate) effect: Effect,
}

const fn command(
    vocabulary: &'static str,
    target: &'static str,
    message: &'static str,
    good: &'static str,
    effect: Effect,
) -> Command {
    Command { vocabulary, target, message, good, effect }
}

/// Every command with a value that becomes a token. The user is always alice.
#[rustfmt::skip]
pub(crate) const VALUE_COMMANDS: [Command; 19] = [
    command("ara", "/ws/predictions/AAPL", r#"{"type":"subscribe","symbol":$}"#, "MSFT", Effect::Subscribes("predictions.MSFT")),
    command("ara", "/ws/market-data/AAPL", r#"{"type":"subscribe","symbol":$}"#, "MSFT", Effect::Subscribes("prices.MSFT market.MSFT")),
    command("ara", "/ws/predictions/AAPL", r#"{"type":"request_prediction","symbol":$}"#, "MSFT", Effect::Requests("predict.MSFT")),
    command("financegpt", "/ws/alice", r#"{"type":"subscribe","symbols":[$]}"#, "INFY", Effect::Subscribes("prices.INFY market.INFY")),
    command("financegpt", "/ws/alice", r#"{"type":"unsubscribe","symbols":[$]}"#, "INFY", Effect::Unsubscribes),
    command("financegpt", "/ws/alice", r#"{"type":"execute_tool","tool":$}"#, "loan", Effect::Requests("tools.loan.alice")),
    command("financegpt", "/ws/alice", r#"{"type":"execute_tool","tool_name":$,"arguments":{}}"#, "loan", Effect::Requests("tools.loan.alice")),
    command("financegpt", "/ws/alice", r#"{"type":"request","request":{"method":"tools.execute","params":{"tool":$}}}"#, "loan", Effect::Requests("tools.loan.alice")),
    command("financegpt", "/ws/alice", r#"{"type":"request","request":{"method":$}}"#, "goals.list", Effect::Requests("finance.alice.goals.list")),
    command("financegpt-mcp", "/", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":$}}"#, "loan", Effect::Requests("tools.loan.alice")),
    command("graphql-ws", "/graphql", r#"{"id":"1","type":"subscribe","payload":{"operationName":"Prices","variables":{"symbol":$}}}"#, "AAPL", Effect::Subscribes("prices.AAPL")),
    command("hoardrun", "/ws/notifications", r#"{"type":"join_room","room":$}"#, "crypto", Effect::Subscribes("room.crypto room.crypto.*")),
    command("sentio", "/ws/trade-signals", r#"{"action":"subscribe","symbols":[$]}"#, "AAPL", Effect::Subscribes("signals signals.AAPL")),
    command("sentio", "/ws/trade-signals", r#"{"action":"unsubscribe","symbols":[$]}"#, "AAPL", Effect::Unsubscribes),
    command("sentio", "/ws/market-data", r#"{"action":"subscribe","symbols":[$]}"#, "AAPL", Effect::Subscribes("prices.AAPL market.AAPL")),
    command("sentio", "/ws/market-data", r#"{"action":"unsubscribe","symbols":[$]}"#, "AAPL", Effect::Unsubscribes),
    command("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"prices","symbols":[$]}"#, "AAPL", Effect::Subscribes("prices.AAPL")),
    command("stock-agent", "/ws/page", r#"{"type":"unsubscribe","channel":"prices","symbols":[$]}"#, "AAPL", Effect::Unsubscribes),
    command("stock-agent", "/ws/page", r#"{"type":"webrtc","to":$,"data":1}"#, "bob", Effect::Publishes("webrtc.bob.alice")),
];

/// Every command without such a value that uses a subject.
#[rustfmt::skip]
pub(crate) const FIXED_COMMANDS: [Command; 14] = [
    command("financegpt", "/ws/alice", r#"{"type":"get_balance"}"#, "", Effect::Requests("finance.alice.balance")),
    command("financegpt", "/ws/alice", r#"{"type":"get_transactions"}"#, "", Effect::Requests("finance.alice.transactions")),
    command("financegpt", "/ws/alice", r#"{"type":"acknowledge_alert","alert_id":1}"#, "", Effect::Requests("finance.alice.acknowledge")),
    command("financegpt-mcp", "/", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "", Effect::Requests("mcp.tools")),
    command("graphql-ws", "/graphql", r#"{"id":"1","type":"subscribe","payload":{"operationName":"Notifications"}}"#, "", Effect::Subscribes("user.alice.notifications")),
    command("sentio", "/ws/trade-signals", r#"{"action":"subscribe"}"#, "", Effect::Subscribes("signals signals.* signals.*.*")),
    command("sentio", "/ws/market-data", r#"{"action":"subscribe"}"#, "", Effect::Subscribes("prices.* prices.*.* market.* market.*.*")),
    command("sentio", "/ws/earnings", r#"{"action":"subscribe"}"#, "", Effect::Subscribes("user.alice.earnings")),
    command("sentio", "/ws/notifications", r#"{"action":"subscribe"}"#, "", Effect::Subscribes("user.alice.notifications")),
    command("sentio", "/ws/admin", r#"{"action":"subscribe"}"#, "", Effect::Subscribes("admin.*")),
    command("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"prices"}"#, "", Effect::Subscribes("prices.* prices.*.*")),
    command("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"alerts"}"#, "", Effect::Subscribes("alerts")),
    command("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"portfolio"}"#, "", Effect::Subscribes("user.alice.portfolio")),
    command("stock-agent", "/ws/page", r#"{"type":"subscribe","channel":"webrtc"}"#, "", Effect::Subscribes("webrtc.alice.*")),
];

impl Effect {
    /// The subjects that the command uses.
    pub(crate) fn subjects(self) -> impl Iterator<Item = &'static str> {
        match self {
            Self::Subscribes(subjects) | Self::Requests(subjects) | Self::Publishes(subjects) => {
                subjects.split(' ')
            }
            Self::Unsubscribes => "nothing".split(' '),
        }
    }
}

impl Command {
    /// Whether the value may be several tokens, with dots between them.
    pub(crate) fn is_dotted(&self) -> bool {
        let with_dots: &[&str] = match self.vocabulary {
            "financegpt" => &["\"symbols\"", "\"method\":$"],
            "ara" | "sentio" | "stock-agent" => &["\"symbol"],
            _ => &[],
        };
        with_dots.iter().any(|part| self.message.contains(part))
    }

    /// The message with this value, as JSON.
    pub(crate) fn with(&self, json: &str) -> String {
        self.message.replace('$', json)
    }

    /// The message with its valid value.
    pub(crate) fn good(&self) -> String {
        self.with(&format!("\"{}\"", self.good))
    }
}

/// Invalid tokens as text: the values of `sub-01`, and those of `sub-02` before decoding.
pub(crate) const INVALID_TOKENS: [&str; 22] = [
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

/// A text that is several tokens, which some values may be.
pub(crate) const DOTTED: &str = "a.b";

/// Invalid tokens as JSON: those above, a text that is too long, and values that are not text.
pub(crate) fn invalid_tokens() -> Vec<String> {
    let texts = INVALID_TOKENS.iter().map(|text| serde_json::Value::from(*text).to_string());
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

/// First tokens of subjects that NATS and Tidegate reserve (`sub-05`).
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
