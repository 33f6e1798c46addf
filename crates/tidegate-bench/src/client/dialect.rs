//! The protocols that clients of the bench use.

/// The protocol of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Tidegate's native protocol.
    Native,
    /// The messages of Stock Agent's frontend, plus a confirmation of each subscription.
    StockAgent,
    /// A vocabulary from a file. Clients subscribe with a message that the bench adds to it.
    Vocabulary,
    /// The NATS protocol, in binary frames.
    Nats,
    /// Centrifugo's JSON protocol: a frame has one or more messages, one a line.
    Centrifugo,
    /// The baseline: the path of the request has the subjects, and frames follow without further messages.
    Baseline,
}

impl Dialect {
    pub const ALL: [Self; 6] =
        [Self::Native, Self::StockAgent, Self::Vocabulary, Self::Nats, Self::Centrifugo, Self::Baseline];

    /// The name in the lines that the bench sends to its client processes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::StockAgent => "stock-agent",
            Self::Vocabulary => "vocabulary",
            Self::Nats => "nats",
            Self::Centrifugo => "centrifugo",
            Self::Baseline => "baseline",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }
}
