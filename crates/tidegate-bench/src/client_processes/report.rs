//! What the clients of a process received.

use anyhow::Context as _;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;

/// What clients received: counts of one process, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientReport {
    /// Number of clients that are subscribed.
    pub connected: u64,
    /// Number of clients that have received their publication.
    pub received: u64,
    /// Number of pings since the last report.
    pub pings: u64,
    /// The same of the client that received the fewest.
    pub fewest_pings: u64,
}

impl ClientReport {
    /// The report about the clients of two processes.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            connected: self.connected + other.connected,
            received: self.received + other.received,
            pings: self.pings + other.pings,
            fewest_pings: self.fewest_pings.min(other.fewest_pings),
        }
    }

    pub(super) fn line(self) -> Value {
        let Self { connected, received, pings, fewest_pings } = self;
        json!({ "connected": connected, "received": received, "pings": pings, "fewest_pings": fewest_pings })
    }

    /// Reads a reply. Fails if it is an error of the client process.
    pub(super) fn parse(line: &str) -> anyhow::Result<Self> {
        let reply: Value = serde_json::from_str(line).context("the reply of a client process is not JSON")?;
        if let Some(error) = reply["error"].as_str() {
            bail!("{error}");
        }
        let number =
            |key: &str| reply[key].as_u64().with_context(|| format!("the reply of a process lacks {key}"));
        Ok(Self {
            connected: number("connected")?,
            received: number("received")?,
            pings: number("pings")?,
            fewest_pings: number("fewest_pings")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientReport = ClientReport { connected: 5, received: 4, pings: 9, fewest_pings: 1 };

    #[test]
    fn reports_add_up_except_for_the_fewest_pings() {
        let both = A.plus(ClientReport { connected: 1, received: 1, pings: 2, fewest_pings: 2 });
        assert_eq!(both, ClientReport { connected: 6, received: 5, pings: 11, fewest_pings: 1 });
    }

    #[test]
    fn a_reply_is_a_report_or_an_error() {
        assert_eq!(ClientReport::parse(&A.line().to_string()).unwrap(), A);
        for (line, words) in [(r#"{"error":"it broke"}"#, "it broke"), ("{}", "lacks connected")] {
            let error = ClientReport::parse(line).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
