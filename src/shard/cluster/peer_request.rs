//! `PeerRequest`: the query that a node sends to the others, and the headers of their answers.

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use tracing::debug;

use crate::nats::scatter_gather::PeerReply;
use crate::nats::scatter_gather::Query;

/// A query to the other nodes. Sent as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeerRequest {
    /// The id of the node that asks. It ignores its own requests.
    pub from: Box<str>,
    pub what: PeerQuery,
}

/// The kinds of queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PeerQuery {
    Statistics(StatisticsQuery),
    /// The last values of channels.
    Values {
        channels: Vec<Box<str>>,
    },
    /// Not a query: the newest connections of users on the node that sends it. They replace those of other nodes.
    Replaced(Vec<PeerConnection>),
}

/// The newest connection of a user on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeerConnection {
    pub endpoint: Box<str>,
    pub issuer: Option<Box<str>>,
    pub user: Box<str>,
    /// When it started, in microseconds since 1970.
    pub started: u64,
}

/// A query for the statistics of a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct StatisticsQuery {
    /// The place of the vocabulary in the configuration, and its name. A node where they do not match has another configuration; its answer
    /// is empty.
    pub vocabulary: u16,
    pub name: Box<str>,
    /// Whether to list labels, groups and items.
    pub with_names: bool,
}

impl PeerRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` if it is not a valid request, or one of a newer version.
    pub(super) fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// The headers of each part of an answer: the node that answers, and how many parts follow.
const NODE: &str = "Tidegate-Node";
const FOLLOW: &str = "Tidegate-Follow";

/// One message of an answer: its body and its headers.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerPart {
    pub data: Bytes,
    pub headers: Vec<(&'static str, String)>,
}

/// Sends the parts of an answer. An empty answer is one empty part.
pub(super) fn answer(node: &str, request: &Query, parts: &[AnswerPart]) {
    let empty = [AnswerPart::default()];
    let parts = if parts.is_empty() { &empty } else { parts };
    for (follow, part) in (0..parts.len()).rev().zip(parts) {
        let follow = follow.to_string();
        let headers = part.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = headers.chain([(NODE, node), (FOLLOW, follow.as_str())]).collect();
        if let Err(error) = request.reply(&part.data, &headers) {
            return debug!(%error, "cannot answer another node");
        }
    }
}

/// The node that sent a part of an answer, and how many parts follow.
pub(super) fn origin(answer: &PeerReply) -> Option<(&str, usize)> {
    Some((answer.header(NODE)?, answer.header(FOLLOW)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_decoded_as_they_were_encoded_and_others_are_rejected() {
        let statistics =
            PeerQuery::Statistics(StatisticsQuery { vocabulary: 1, name: "x".into(), with_names: true });
        let values = PeerQuery::Values { channels: vec!["prices.AAPL".into()] };
        let connection = PeerConnection {
            endpoint: "/ws".into(),
            issuer: Some("https://issuer".into()),
            user: "alice".into(),
            started: u64::MAX,
        };
        let replaced =
            PeerQuery::Replaced(vec![connection.clone(), PeerConnection { issuer: None, ..connection }]);
        for what in [statistics, values, replaced] {
            let request = PeerRequest { from: "a".into(), what };
            assert_eq!(PeerRequest::decode(&request.encode()), Some(request));
        }
        for other in ["", "1", "{}", r#"{"from":"a","what":{"newer":{}}}"#, r#"{"from":"a","what":"values"}"#]
        {
            assert_eq!(PeerRequest::decode(other.as_bytes()), None, "{other}");
        }
    }
}
