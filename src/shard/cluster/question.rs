//! Question: what a node asks the others, and how their answers are labelled.

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use tracing::debug;

use crate::nats::scatter_gather::PeerReply;
use crate::nats::scatter_gather::Query;

/// What a node asks the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeerRequest {
    /// Who asks: it does not answer itself.
    pub from: Box<str>,
    /// What it asks.
    pub what: What,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// Statistics.
    Statistics(Kind),
    /// The last values of channels.
    Values { channels: Vec<Box<str>> },
}

/// Which statistics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Kind {
    /// The vocabulary's number and name. A node where they are not both the same has another configuration, and has
    /// nothing to say.
    pub vocabulary: u16,
    pub name: Box<str>,
    /// Whether labels, groups and items are to be listed.
    pub with_names: bool,
}

impl PeerRequest {
    /// As it is sent.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` if it is no question.
    pub(super) fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// Whose answer a message is a piece of, and how many pieces follow.
const NODE: &str = "Tidegate-Node";
const FOLLOW: &str = "Tidegate-Follow";

/// One message of an answer: its body, and what it says of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    pub data: Bytes,
    pub labels: Vec<(&'static str, String)>,
}

/// Sends the pieces of an answer. A node that has nothing to say says that.
pub(super) fn answer(node: &str, enquiry: &Query, pieces: &[Piece]) {
    let nothing = [Piece::default()];
    let pieces = if pieces.is_empty() { &nothing } else { pieces };
    for (follow, piece) in (0..pieces.len()).rev().zip(pieces) {
        let follow = follow.to_string();
        let labels = piece.labels.iter().map(|(name, value)| (*name, value.as_str()));
        let lines: Vec<_> = labels.chain([(NODE, node), (FOLLOW, follow.as_str())]).collect();
        if let Err(error) = enquiry.reply(&piece.data, &lines) {
            return debug!(%error, "cannot answer another node");
        }
    }
}

/// Of which node a message is, and how many follow.
pub(super) fn origin(answer: &PeerReply) -> Option<(&str, usize)> {
    Some((answer.header(NODE)?, answer.header(FOLLOW)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_as_they_were_sent_and_what_is_none_is_none() {
        let statistics = What::Statistics(Kind { vocabulary: 1, name: "x".into(), with_names: true });
        let values = What::Values { channels: vec!["prices.AAPL".into()] };
        for what in [statistics, values] {
            let question = PeerRequest { from: "a".into(), what };
            assert_eq!(PeerRequest::decode(&question.encode()), Some(question));
        }
        for other in ["", "1", "{}", r#"{"from":"a","what":{"newer":{}}}"#, r#"{"from":"a","what":"values"}"#]
        {
            assert_eq!(PeerRequest::decode(other.as_bytes()), None, "{other}");
        }
    }
}
