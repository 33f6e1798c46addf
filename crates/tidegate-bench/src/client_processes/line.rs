//! The lines that the bench sends to a client process: one with the size of its part, one with the certificate of the
//! servers, one for each client, and then one for each command.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;

use crate::client::ClientConfig;
use crate::client::dialect::Dialect;
use crate::client_processes::idle_client::IdleClient;

pub(super) const CONNECT: &str = "connect";
pub(super) const REPORT: &str = "report";

/// The first line: the number of the first client, the number of clients, and the number of processes.
pub(super) fn head(first: usize, clients: usize, processes: usize) -> String {
    format!("{first} {clients} {processes}\n")
}

pub(super) fn parse_head(line: &str) -> anyhow::Result<[usize; 3]> {
    let numbers: Option<Vec<_>> = line.split(' ').map(|number| number.parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).context("the first line needs three numbers")
}

/// The second line: the file with the certificate of the servers. It is empty if there is no TLS.
pub(super) fn certificate(file: Option<&Path>) -> String {
    format!("{}\n", file.map(|file| file.display().to_string()).unwrap_or_default())
}

pub(super) fn parse_certificate(line: &str) -> Option<&Path> {
    (!line.is_empty()).then(|| Path::new(line))
}

/// Without its TLS, which all clients share.
pub(super) fn client(client: &IdleClient) -> String {
    let ClientConfig { address, dialect, path, token, channels, compress, receive_buffer, tls: _ } =
        &client.config;
    let line = json!({
        "address": address.to_string(),
        "dialect": dialect.name(),
        "path": path,
        "token": token,
        "channels": channels,
        "compress": compress,
        "receive_buffer": receive_buffer,
        "expects": client.expects,
    });
    format!("{line}\n")
}

pub(super) fn parse_client(line: &str) -> anyhow::Result<IdleClient> {
    let client: Value = serde_json::from_str(line).context("the line of a client is not JSON")?;
    let read = || {
        let text = |key: &str| client[key].as_str().map(str::to_owned);
        let channels = client["channels"].as_array()?.iter();
        let config = ClientConfig {
            address: text("address")?.parse().ok()?,
            dialect: Dialect::from_name(&text("dialect")?)?,
            path: text("path")?,
            token: text("token")?,
            channels: channels.map(|channel| channel.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            compress: client["compress"].as_bool()?,
            receive_buffer: usize::try_from(client["receive_buffer"].as_u64()?).ok()?,
            tls: None,
        };
        Some(IdleClient { config, expects: client["expects"].as_u64()? })
    };
    read().context("the line of a client lacks a key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_same_after_its_line_is_read() {
        for dialect in Dialect::ALL {
            let config = ClientConfig {
                address: ([127, 0, 0, 1], 4711).into(),
                dialect,
                path: "/a".to_owned(),
                token: "t".to_owned(),
                channels: vec!["x".to_owned(), "y\"z".to_owned()],
                compress: true,
                receive_buffer: 5,
                tls: None,
            };
            let sent = IdleClient { config, expects: 7 };
            let read = parse_client(client(&sent).trim_end()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{sent:?}"));
        }
        assert!(parse_client("{}").is_err() && parse_client("x").is_err());
    }

    #[test]
    fn the_second_line_names_the_certificate_or_is_empty() {
        for file in [None, Some(Path::new("/a b/cert.pem"))] {
            assert_eq!(parse_certificate(certificate(file).trim_end()), file);
        }
    }

    #[test]
    fn the_first_line_has_three_numbers() {
        assert_eq!(parse_head(head(20, 10, 3).trim_end()).unwrap(), [20, 10, 3]);
        for line in ["", "1 2", "1 2 x", "1 2 3 4"] {
            assert!(parse_head(line).is_err(), "{line}");
        }
    }
}
