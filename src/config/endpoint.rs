//! `[[endpoint]]`: where clients connect, and the vocabulary that they use there.

pub mod access;

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::permissions::Role;
use tidegate_vocabulary::compile::compile_with;
use tidegate_vocabulary::model::CompiledVocabulary;

use crate::config::allowed_origins;
use crate::config::allowed_origins::AllowedOrigins;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::IdentityHint;
use crate::config::http::HttpConfig;
use crate::config::listen_address::ListenAddress;
use crate::config::source;
use crate::config::table::ConfigTable;

/// Paths that Tidegate serves on every listener.
const RESERVED_PATHS: [&str; 4] = ["/healthz", "/readyz", "/v1/preflight", "/v1/ticket"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// A separate listener, which several endpoints may share. `None`: `http.listen`.
    pub listen: Option<ListenAddress>,
    /// Whether that listener uses TLS, if `[tls]` has a certificate.
    pub tls: bool,
    /// Empty if the vocabulary is a file, which has the paths.
    pub path: String,
    pub vocabulary: String,
    pub file: Option<VocabularyFile>,
    pub access: AccessConfig,
    /// The pages that may talk to this endpoint, besides the node's own. `None`: `http.allowed_origins`.
    pub allowed_origins: Option<AllowedOrigins>,
    /// Whether clients may authenticate with the cookie `auth.cookie`.
    pub cookie: bool,
    /// Whether a new WebSocket connection of a user replaces the user's earlier one.
    pub replace_connections: bool,
}

/// A vocabulary that was read from a file.
#[derive(Clone, Debug)]
pub struct VocabularyFile(pub Arc<CompiledVocabulary>);

impl PartialEq for VocabularyFile {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_same_as(&other.0)
    }
}

impl Eq for VocabularyFile {}

impl VocabularyFile {
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.paths.iter().map(|path| &*path.template)
    }
}

impl EndpointConfig {
    /// The path of the endpoint, or the paths of its vocabulary.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let own = Some(self.path.as_str()).filter(|path| !path.is_empty());
        own.into_iter().chain(self.file.iter().flat_map(VocabularyFile::paths))
    }

    /// Whether this endpoint may have a path of an earlier endpoint, because clients choose it with one of the
    /// subprotocols that its vocabulary lists in addition to its name.
    fn is_chosen_before(&self, earlier: &Self) -> bool {
        let Some(VocabularyFile(vocabulary)) = &self.file else { return false };
        let earlier: &[Box<str>] =
            earlier.file.as_ref().map_or(&[], |VocabularyFile(file)| &file.subprotocols);
        vocabulary.subprotocols.len() > 1
            && !vocabulary.subprotocols.iter().any(|name| earlier.contains(name))
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        let (path, vocabulary) = ("/ws".to_owned(), "native".to_owned());
        Self {
            listen: None,
            tls: true,
            path,
            vocabulary,
            file: None,
            access: AccessConfig::default(),
            allowed_origins: None,
            cookie: true,
            replace_connections: false,
        }
    }
}

/// Reads all endpoints; without any, returns the default one. `main` has the main listener.
pub(super) fn read(
    root: &ConfigTable<'_>,
    roles: &[Role],
    main: &HttpConfig,
    encodes_users: bool,
) -> Vec<EndpointConfig> {
    let endpoints = root.tables("endpoint", |table| read_one(table, roles, main, encodes_users));
    let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.is_empty()) else {
        return vec![EndpointConfig::default()];
    };
    for listen in listeners(endpoints.iter().map(|(_, endpoint)| endpoint)) {
        let here: Vec<_> = endpoints.iter().filter(|(_, endpoint)| endpoint.listen == listen).collect();
        // The first endpoint of a path remains: others may be chosen before it.
        let is_chosen = |at: usize, endpoint: &EndpointConfig, path: &str| {
            let has_path = |earlier: &&EndpointConfig| earlier.paths().any(|other| other == path);
            let mut earlier = here.iter().take(at).map(|(_, earlier)| earlier).filter(has_path).peekable();
            earlier.peek().is_some() && earlier.all(|earlier| endpoint.is_chosen_before(earlier))
        };
        let paths = here.iter().enumerate().flat_map(|(at, (key, endpoint))| {
            let by_path = endpoint.paths().filter(move |path| !is_chosen(at, endpoint, path));
            by_path.map(|path| (key.as_str(), path))
        });
        root.reject_duplicates(paths, "path", "give each endpoint its own path, or its own listener");
    }
    endpoints.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// The listeners of endpoints, each once.
fn listeners<'e>(endpoints: impl Iterator<Item = &'e EndpointConfig>) -> BTreeSet<Option<ListenAddress>> {
    endpoints.map(|endpoint| endpoint.listen.clone()).collect()
}

/// The listeners of endpoints in addition to `http.listen`, each once.
pub fn extra_listeners(endpoints: &[EndpointConfig]) -> impl Iterator<Item = ListenAddress> {
    listeners(endpoints.iter()).into_iter().flatten()
}

fn read_one(
    table: &ConfigTable<'_>,
    roles: &[Role],
    main: &HttpConfig,
    encodes_users: bool,
) -> Option<EndpointConfig> {
    let listen = table.optional("listen", |text| {
        if text.is_empty() { Ok(None) } else { ListenAddress::from_str(text).map(Some) }
    });
    // Two addresses with port 0 get different ports.
    let listen = listen.flatten().filter(|listen| *listen != main.listen || listen.is_any_port());
    let tls = table.boolean("tls", true);
    if !tls && listen.is_none() {
        table.error(
            "tls",
            "this endpoint is at http.listen",
            "set http.tls instead, or give the endpoint its own `listen`",
        );
    }
    let path_help = "name the path that clients connect to, such as path = \"/ws\"";
    let (mut file, mut is_file, mut is_read) = (None, false, false);
    let switches = table.texts("switches");
    let on: Vec<&str> =
        switches.iter().flat_map(|found| found.value.iter().map(|element| element.text)).collect();
    let vocabulary = table.parsed("vocabulary", "native".to_owned(), |text| {
        is_file = is_named_as_file(text);
        if text != "native" {
            let read = read_vocabulary(table, text, &on)?;
            is_read = true;
            file = read.map(|mut vocabulary| {
                vocabulary.encodes_users = encodes_users;
                VocabularyFile(Arc::new(vocabulary))
            });
        }
        Ok(text.to_owned())
    });
    check_switches(table, is_file, file.as_ref());
    // This also applies if the file cannot be read: its paths are unknown, and that error is reported already.
    let path = if is_file {
        // The name of a file that cannot be read may be meant for another vocabulary.
        if table.optional("path", |text| path(text, listen.as_ref())).is_some() && is_read {
            let message = "the vocabulary is a file, which has its own paths";
            table.error("path", message, "remove `path`, or name another vocabulary");
        }
        Some(String::new())
    } else {
        table.required("path", path_help, |text| path(text, listen.as_ref()))
    };
    let access = access::read(table, roles);
    check_identity_hints(table, &access, file.as_ref());
    check_path_roles(table, &access, is_file, file.as_ref());
    let allowed_origins = allowed_origins::list_or_any(table, "allowed_origins");
    let cookie = table.boolean("cookie", true);
    let replace_connections = table.boolean("replace_connections", false);
    let has_demo_page = listen.is_none() && main.console;
    for path in file.iter().flat_map(VocabularyFile::paths) {
        // Without the demo page, `/` is free.
        if path == "/" && !has_demo_page {
            continue;
        }
        if let Err(ValueError { message, help }) = check_free(path, listen.as_ref()) {
            table.error("vocabulary", format!("its path \"{path}\" {message}"), help);
        }
    }
    Some(EndpointConfig {
        listen,
        tls,
        path: path?,
        vocabulary,
        file,
        access,
        allowed_origins,
        cookie,
        replace_connections,
    })
}

/// The vocabulary must be a file, and declare each of the switches.
fn check_switches(table: &ConfigTable<'_>, is_file: bool, file: Option<&VocabularyFile>) {
    let check = |name: &str| match file {
        Some(VocabularyFile(vocabulary)) => vocabulary.check_switch(name),
        // The file cannot be read, and that is reported.
        None if is_file => Ok(()),
        None => {
            let help = "remove it, or name a vocabulary file, such as vocabulary = \"frontend.toml\"";
            Err(ValueError::new("is a switch, and only a vocabulary that is a file has switches", help))
        }
    };
    table.list("switches", check);
}

fn is_named_as_file(vocabulary: &str) -> bool {
    Path::new(vocabulary).extension().is_some_and(|extension| extension == "toml")
}

/// The vocabulary must compare each identity hint with the user. Otherwise a page could name one user at the handshake
/// and act as another.
fn check_identity_hints(table: &ConfigTable<'_>, access: &AccessConfig, file: Option<&VocabularyFile>) {
    let (Some(trusted), Some(VocabularyFile(vocabulary))) = (&access.trust_client_identity, file) else {
        return;
    };
    let name = &vocabulary.name;
    let uncompared = |key: &str, hint: &IdentityHint, section: &str| {
        let message = format!("no `require` of {name} compares `{key}` (\"{hint}\") with {{user}}");
        let help = format!("add require = {{ \"{hint}\" = \"{{user}}\" }} to its [[{section}]]");
        table.error("trust_client_identity", message, help);
    };
    if !vocabulary.requires(&trusted.user.to_string()) {
        uncompared("user", &trusted.user, "path");
    }
    if let Some(http_user) = &trusted.http_user
        && !vocabulary.requires_in_http(&http_user.to_string())
    {
        uncompared("http_user", http_user, "http");
    }
}

/// Each path with its own role must be a path of the vocabulary. If its file cannot be read, the names are unknown.
fn check_path_roles(
    table: &ConfigTable<'_>,
    access: &AccessConfig,
    is_file: bool,
    file: Option<&VocabularyFile>,
) {
    let Some((first, _)) = access.path_roles.first() else { return };
    if !is_file {
        let message =
            format!("{} is not a path: only the paths of a vocabulary file have names", quoted(first));
        table.error("roles", message, "set auth.default_role instead");
    }
    let Some(VocabularyFile(vocabulary)) = file else { return };
    let names: Vec<&str> = vocabulary.paths.iter().map(|path| &*path.name).collect();
    for (path, _) in access.path_roles.iter().filter(|(path, _)| !names.contains(&path.as_str())) {
        let message = format!("{} is not the name of a path of {}", quoted(path), vocabulary.name);
        let help = format!("{}its paths are {}", did_you_mean(path, &names), names.join(", "));
        table.error("roles", message, help);
    }
}

/// Reads and compiles the file of a vocabulary, with these switches on. Each error and warning in it is reported with
/// its own place.
fn read_vocabulary(
    table: &ConfigTable<'_>,
    name: &str,
    switches: &[&str],
) -> Result<Option<CompiledVocabulary>, ValueError> {
    if !is_named_as_file(name) {
        let hint = did_you_mean(name, &["native"]);
        let help =
            format!("{hint}write \"native\", or the name of a vocabulary file, such as \"frontend.toml\"");
        return Err(ValueError::new("is not a vocabulary", help));
    }
    let text = source::text_of(Path::new(name)).map_err(|error| {
        let help = "name a file that exists, relative to the working directory";
        ValueError::new(format!("is not a vocabulary: {error}"), help)
    })?;
    match compile_with(&text, switches) {
        Ok(compiled) => {
            compiled.warnings.into_iter().for_each(|warning| table.in_file(name, warning));
            Ok(Some(compiled.vocabulary))
        }
        Err(errors) => {
            errors.into_iter().for_each(|error| table.in_file(name, error));
            Ok(None)
        }
    }
}

/// Rejects paths that Tidegate itself serves.
fn check_free(text: &str, listen: Option<&ListenAddress>) -> Result<(), ValueError> {
    if text == "/" && listen.is_none() {
        let help =
            "choose another path, or give the endpoint its own listener, such as listen = \"127.0.0.1:9001\"";
        return Err(ValueError::new("is a path of Tidegate itself on http.listen", help));
    }
    if RESERVED_PATHS.contains(&text) {
        let help = format!("choose a path other than {}", RESERVED_PATHS.join(", "));
        return Err(ValueError::new("is a path of Tidegate itself", help));
    }
    Ok(())
}

fn path(text: &str, listen: Option<&ListenAddress>) -> Result<String, ValueError> {
    if !text.starts_with('/') {
        return Err(ValueError::new("does not start with \"/\"", "write a path such as \"/ws\""));
    }
    check_free(text, listen)?;
    if text == "/" {
        return Ok(text.to_owned());
    }
    let segment = |segment: &str| {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c);
        !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(is_legal)
    };
    if text.len() > 256 || !text[1..].split('/').all(segment) {
        let help = "write at most 256 letters, digits and characters such as \"-\", with single slashes, and \
                    without a query, percent-encoding or a slash at the end";
        return Err(ValueError::new("is not a valid path", help));
    }
    Ok(text.to_owned())
}
