//! `[[endpoint]]`: a path for WebSocket clients, and the vocabulary spoken there.

pub mod access;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tidegate_document::diagnostic::Wrong;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::permissions::Role;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::model::CompiledVocabulary;

use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::IdentityHint;
use crate::config::http::HttpConfig;
use crate::config::http::address;
use crate::config::source;
use crate::config::table::ConfigTable;

/// On every listener.
const TAKEN: [&str; 2] = ["/healthz", "/readyz"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// A listener of its own, or of several endpoints; `None`: `http.listen`.
    pub listen: Option<SocketAddr>,
    /// Empty where the vocabulary's file names the paths.
    pub path: String,
    pub vocabulary: String,
    pub file: Option<VocabularyFile>,
    pub access: AccessConfig,
}

/// A vocabulary as its file describes it.
#[derive(Clone, Debug)]
pub struct VocabularyFile(pub Arc<CompiledVocabulary>);

impl PartialEq for VocabularyFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for VocabularyFile {}

impl VocabularyFile {
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.paths.iter().map(|path| &*path.template)
    }
}

impl EndpointConfig {
    /// Its own path, or those of its vocabulary.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let own = Some(self.path.as_str()).filter(|path| !path.is_empty());
        own.into_iter().chain(self.file.iter().flat_map(VocabularyFile::paths))
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        let (path, vocabulary) = ("/ws".to_owned(), "native".to_owned());
        Self { listen: None, path, vocabulary, file: None, access: AccessConfig::default() }
    }
}

/// Every endpoint; the default one where the file names none. What listens where all do is at `main`.
pub(super) fn read(root: &ConfigTable<'_>, roles: &[Role], main: &HttpConfig) -> Vec<EndpointConfig> {
    let endpoints = root.tables("endpoint", |table| read_one(table, roles, main));
    let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.is_empty()) else {
        return vec![EndpointConfig::default()];
    };
    for listen in listeners(endpoints.iter().map(|(_, endpoint)| endpoint)) {
        let here = endpoints.iter().filter(|(_, endpoint)| endpoint.listen == listen);
        let paths = here.flat_map(|(key, endpoint)| endpoint.paths().map(|path| (key.as_str(), path)));
        root.refuse_twins(paths, "path", "give every endpoint a path of its own, or a listener");
    }
    endpoints.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// Where endpoints listen, each listener once.
fn listeners<'e>(endpoints: impl Iterator<Item = &'e EndpointConfig>) -> BTreeSet<Option<SocketAddr>> {
    endpoints.map(|endpoint| endpoint.listen).collect()
}

/// The listeners that endpoints have next to `http.listen`, each once.
pub fn listeners_beside(endpoints: &[EndpointConfig]) -> impl Iterator<Item = SocketAddr> {
    listeners(endpoints.iter()).into_iter().flatten()
}

fn read_one(table: &ConfigTable<'_>, roles: &[Role], main: &HttpConfig) -> Option<EndpointConfig> {
    let listen =
        table.optional("listen", |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) });
    // Two that may each have any port are two.
    let listen = listen.flatten().filter(|listen| *listen != main.listen || listen.port() == 0);
    let cure = "name the path that clients connect to, such as path = \"/ws\"";
    let (mut file, mut is_file) = (None, false);
    let vocabulary = table.parsed("vocabulary", "native".to_owned(), |text| {
        is_file = is_named_as_file(text);
        if text != "native" {
            file = described(table, text)?;
        }
        Ok(text.to_owned())
    });
    // Also where the file cannot be read: then no one knows its paths.
    let path = if is_file {
        if table.optional("path", |text| path(text, listen)).is_some() {
            let cure = "remove it, or name another vocabulary";
            table.mistake("path", "and a vocabulary with paths of its own exclude each other", cure);
        }
        Some(String::new())
    } else {
        table.required("path", cure, |text| path(text, listen))
    };
    let access = access::read(table, roles);
    check_believe(table, &access, file.as_ref());
    let paged = listen.is_none() && main.console;
    for path in file.iter().flat_map(VocabularyFile::paths) {
        // Where the page is not asked for, its place is free.
        if path == "/" && !paged {
            continue;
        }
        if let Err(Wrong { message, help }) = free(path, listen) {
            table.mistake("vocabulary", format!("its path \"{path}\" {message}"), help);
        }
    }
    Some(EndpointConfig { listen, path: path?, vocabulary, file, access })
}

fn is_named_as_file(vocabulary: &str) -> bool {
    Path::new(vocabulary).extension().is_some_and(|extension| extension == "toml")
}

/// Who is believed must be who the vocabulary takes a client for, or a page could name one user and be another.
fn check_believe(table: &ConfigTable<'_>, access: &AccessConfig, file: Option<&VocabularyFile>) {
    let (Some(believe), Some(VocabularyFile(described))) = (&access.believe, file) else { return };
    let name = &described.name;
    let uncompared = |key: &str, place: &IdentityHint, section: &str| {
        let problem = format!("{key} names \"{place}\", which no `require` of {name} compares with {{user}}");
        let cure = format!("add require = {{ \"{place}\" = \"{{user}}\" }} to its [[{section}]]");
        table.mistake("believe", problem, cure);
    };
    if !described.requires(&believe.user.to_string()) {
        uncompared("user", &believe.user, "path");
    }
    if let Some(call) = &believe.call
        && !described.requires_in_http(&call.to_string())
    {
        uncompared("call", call, "http");
    }
}

/// The vocabulary in a file. Its mistakes are noted one by one.
fn described(table: &ConfigTable<'_>, name: &str) -> Result<Option<VocabularyFile>, Wrong> {
    if !is_named_as_file(name) {
        let hint = did_you_mean(name, &["native"]);
        let cure = format!("{hint}write native, or the file of a vocabulary, such as \"frontend.toml\"");
        return Err(Wrong::new("is not a word", cure));
    }
    let text = source::text_of(Path::new(name)).map_err(|error| {
        Wrong::new(
            format!("is no vocabulary: {error}"),
            "name a file that is there, from the working directory",
        )
    })?;
    match compile(&text) {
        Ok(compiled) => {
            compiled.warnings.into_iter().for_each(|warning| table.in_file(name, warning));
            Ok(Some(VocabularyFile(Arc::new(compiled.described))))
        }
        Err(mistakes) => {
            mistakes.into_iter().for_each(|mistake| table.in_file(name, mistake));
            Ok(None)
        }
    }
}

/// Whether a path is not one of Tidegate's own.
fn free(text: &str, listen: Option<SocketAddr>) -> Result<(), Wrong> {
    if text == "/" && listen.is_none() {
        let cure =
            "choose another path, or give the endpoint a listener of its own: listen = \"127.0.0.1:9001\"";
        return Err(Wrong::new("is a path of Tidegate's own at http.listen", cure));
    }
    if TAKEN.contains(&text) {
        let cure = format!("choose another path than {}", TAKEN.join(", "));
        return Err(Wrong::new("is a path of Tidegate's own", cure));
    }
    Ok(())
}

fn path(text: &str, listen: Option<SocketAddr>) -> Result<String, Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::new("does not start with \"/\"", "write a path such as \"/ws\""));
    }
    free(text, listen)?;
    if text == "/" {
        return Ok(text.to_owned());
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
