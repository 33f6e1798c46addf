//! `[[endpoint]]`: a path for WebSocket clients, and the vocabulary spoken there.

pub mod access;

use crate::config::endpoint::access::AccessConfig;
use crate::config::mistake::Wrong;
use crate::config::table::Table;
use crate::protocol::permissions::Role;

const VOCABULARIES: [(&str, &str); 1] = [("native", "native")];
const TAKEN: [&str; 4] = ["/", "/healthz", "/readyz", "/version"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    pub path: String,
    pub vocabulary: String,
    pub access: AccessConfig,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        let (path, vocabulary) = ("/ws".to_owned(), "native".to_owned());
        Self { path, vocabulary, access: AccessConfig::default() }
    }
}

/// Every endpoint; the default one where the file names none.
pub(super) fn read(root: &Table<'_>, roles: &[Role]) -> Vec<EndpointConfig> {
    let endpoints = root.tables("endpoint", |table| read_one(table, roles));
    let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.is_empty()) else {
        return vec![EndpointConfig::default()];
    };
    let paths = endpoints.iter().map(|(key, endpoint)| (key.as_str(), endpoint.path.as_str()));
    root.refuse_twins(paths, "path", "give every endpoint a path of its own");
    endpoints.into_iter().map(|(_, endpoint)| endpoint).collect()
}

fn read_one(table: &Table<'_>, roles: &[Role]) -> Option<EndpointConfig> {
    let cure = "name the path that clients connect to, such as path = \"/ws\"";
    let path = table.required("path", cure, path);
    let vocabulary = table.choice("vocabulary", "native", &VOCABULARIES).to_owned();
    let access = access::read(table, roles);
    Some(EndpointConfig { path: path?, vocabulary, access })
}

fn path(text: &str) -> Result<String, Wrong> {
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
