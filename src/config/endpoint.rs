//! `[[endpoint]]`: a path for WebSocket clients, and the vocabulary spoken there.

pub mod access;

use crate::config::endpoint::access::AccessConfig;
use crate::config::http::address;
use crate::config::mistake::Wrong;
use crate::config::table::Table;
use crate::protocol::permissions::Role;
use std::collections::BTreeSet;
use std::net::SocketAddr;

const VOCABULARIES: [(&str, &str); 1] = [("native", "native")];
/// On every listener.
const TAKEN: [&str; 3] = ["/healthz", "/readyz", "/version"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// A listener of its own, or of several endpoints; `None`: `http.listen`.
    pub listen: Option<SocketAddr>,
    pub path: String,
    pub vocabulary: String,
    pub access: AccessConfig,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        let (path, vocabulary) = ("/ws".to_owned(), "native".to_owned());
        Self { listen: None, path, vocabulary, access: AccessConfig::default() }
    }
}

/// Every endpoint; the default one where the file names none. What listens where all do is at `main`.
pub(super) fn read(root: &Table<'_>, roles: &[Role], main: SocketAddr) -> Vec<EndpointConfig> {
    let endpoints = root.tables("endpoint", |table| read_one(table, roles, main));
    let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.is_empty()) else {
        return vec![EndpointConfig::default()];
    };
    for listen in listeners(endpoints.iter().map(|(_, endpoint)| endpoint)) {
        let here = endpoints.iter().filter(|(_, endpoint)| endpoint.listen == listen);
        let paths = here.map(|(key, endpoint)| (key.as_str(), endpoint.path.as_str()));
        root.refuse_twins(paths, "path", "give every endpoint a path of its own, or a listener");
    }
    endpoints.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// Where endpoints listen, each listener once.
fn listeners<'e>(endpoints: impl Iterator<Item = &'e EndpointConfig>) -> BTreeSet<Option<SocketAddr>> {
    endpoints.map(|endpoint| endpoint.listen).collect()
}

/// The listeners that endpoints have beside `http.listen`, each once.
pub fn listeners_beside(endpoints: &[EndpointConfig]) -> impl Iterator<Item = SocketAddr> {
    listeners(endpoints.iter()).into_iter().flatten()
}

fn read_one(table: &Table<'_>, roles: &[Role], main: SocketAddr) -> Option<EndpointConfig> {
    let listen =
        table.optional("listen", |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) });
    // Two that may each have any port are two.
    let listen = listen.flatten().filter(|listen| *listen != main || listen.port() == 0);
    let cure = "name the path that clients connect to, such as path = \"/ws\"";
    let path = table.required("path", cure, |text| path(text, listen));
    let vocabulary = table.choice("vocabulary", "native", &VOCABULARIES).to_owned();
    let access = access::read(table, roles);
    Some(EndpointConfig { listen, path: path?, vocabulary, access })
}

fn path(text: &str, listen: Option<SocketAddr>) -> Result<String, Wrong> {
    if text == "/" {
        let wrong = || {
            let cure = "choose another path, or give the endpoint a listener of its own: listen = \"127.0.0.1:9001\"";
            Wrong::new("is a path of Tidegate's own at http.listen", cure)
        };
        return listen.map(|_| text.to_owned()).ok_or_else(wrong);
    }
    if !text.starts_with('/') {
        return Err(Wrong::new("does not start with \"/\"", "write a path such as \"/ws\""));
    }
    if TAKEN.contains(&text) {
        let cure = format!("choose another path than {}", TAKEN.join(", "));
        return Err(Wrong::new("is a path of Tidegate's own", cure));
    }
    let segment = |segment: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c);
        !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(legal)
    };
    if text.len() > 256 || !text[1..].split('/').all(segment) {
        let cure = "write at most 256 letters, digits and signs such as \"-\" between single slashes, without query, \
                    escapes or a slash at the end";
        return Err(Wrong::new("is not a plain path", cure));
    }
    Ok(text.to_owned())
}
