//! Question: what a node asks the others, as JSON.

use serde::Deserialize;
use serde::Serialize;

/// What a node asks the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// Statistics of a vocabulary, with labels, groups and items if `with_names`. A node where number and name are not
    /// both the same has another configuration, and is silent; so is the one that asks.
    Statistics { from: Box<str>, vocabulary: u16, name: Box<str>, with_names: bool },
    /// The last values of channels.
    Values { channels: Vec<Box<str>> },
}

impl Question {
    /// As it is sent.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` if it is no question.
    pub(super) fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_as_they_were_sent_and_what_is_none_is_none() {
        let statistics =
            Question::Statistics { from: "a".into(), vocabulary: 1, name: "x".into(), with_names: true };
        let values = Question::Values { channels: vec!["prices.AAPL".into()] };
        for question in [statistics, values] {
            assert_eq!(Question::decode(&question.encode()), Some(question));
        }
        for other in ["", "1", "{}", r#"{"newer":{}}"#, r#"{"values":{"channels":1}}"#] {
            assert_eq!(Question::decode(other.as_bytes()), None, "{other}");
        }
    }
}
