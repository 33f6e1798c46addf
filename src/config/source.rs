//! The sources of a configuration: the file, environment variables and flags, merged into one tree. Later sources
//! override earlier ones. Values are not checked here, only the names of variables and flags.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use ::config::ConfigError;
use ::config::File;
use ::config::FileFormat;
use ::config::Map;
use ::config::Source;
use ::config::Value;
use ::config::ValueKind;
use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::WHOLE_FILE;
use tidegate_document::node::Node;
use tidegate_document::node::Table;
use tidegate_document::parse::parse;
use tidegate_document::quote::plain;

use crate::config::keys::KnownKeys;
use crate::config::keys::renamed;
use crate::config::suggest;
use crate::config::tree;
use crate::config::tree::FLAG;

const PREFIX: &str = "TIDEGATE_";
/// Variables that are not keys: `tidegate dev` and the scripts for building and testing use them.
const OTHER_VARIABLES: [&str; 4] =
    ["TIDEGATE_NATS_SERVER", "TIDEGATE_CACHE", "TIDEGATE_CHROMIUM", "TIDEGATE_PYTHON2"];
const DEFAULT_FILE: &str = "config.toml";

/// More than any configuration needs. Without a limit, reading a file such as `/dev/zero` would never end.
const MAX_FILE_BYTES: u64 = 1_048_576;

/// Common variables that set a key. Tidegate's own variable for the same key overrides them; an empty one is ignored.
const COMMON_VARIABLES: [(&str, &str); 10] = [
    ("NATS_URL", "nats.url"),
    ("NATS_CREDS", "nats.creds_file"),
    ("NATS_USER", "nats.user"),
    ("NATS_PASSWORD", "nats.password"),
    ("RUST_LOG", "log.filter"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "traces.endpoint"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "traces.ca_file"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "traces.headers"),
    ("OTEL_SERVICE_NAME", "traces.service_name"),
    ("OTEL_BSP_SCHEDULE_DELAY", "traces.export_interval_ms"),
];

/// What the variables of OpenTelemetry begin with. All programs of a machine may share them, so a build that exports no
/// spans does not read them.
const OTEL: &str = "OTEL_";

/// The sources of a configuration. Each field overrides the ones above it. There is no `Debug`, because it contains
/// secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// `None`: `config.toml` in the working directory if it exists, otherwise the defaults.
    pub file: Option<PathBuf>,
    pub environment: Vec<(String, String)>,
    /// Pairs of key and value; keys are written as in the file, `http.listen`.
    pub flags: Vec<(String, String)>,
}

/// The merged sources. In `root`, values of variables and flags have their name as origin; values of the file have no
/// origin.
pub(super) struct Gathered {
    pub(super) root: Node,
    pub(super) file: Option<PathBuf>,
    pub(super) errors: Vec<Diagnostic>,
}

/// Fails if the file cannot be read or parsed: without it, checking the rest would report wrong errors.
pub(super) fn gather(sources: &Sources, keys: &KnownKeys) -> Result<Gathered, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let variables = variables(&sources.environment, keys, &mut errors);
    let flags = flags(&sources.flags, keys, &mut errors);
    let file =
        sources.file.clone().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
    let origin = file.as_deref().map_or_else(|| DEFAULT_FILE.to_owned(), shown);
    let text = file.as_deref().map_or_else(|| Ok(String::new()), text_of);
    let read = text.map_err(|message| (None, message)).and_then(|text| {
        let written = parse(&text).map_err(|broken| (Some(broken.place), broken.message))?;
        let collected = File::from_str(&text, FileFormat::Toml).collect();
        let mut collected = collected.map_err(|error| (None, plain(&error.to_string())))?;
        errors.extend(remove_dotted_keys(&written, &mut collected).map(|error| error.with_origin(&origin)));
        let set = variables.iter().chain(&flags);
        errors.extend(set.filter(|(key, _)| is_list_of_tables(&collected, key)).map(|(key, value)| {
            let message = "the file has a list of tables here, which cannot be replaced as a whole";
            let help = "remove this setting, or the list in the file";
            let origin = value.origin().unwrap_or_default();
            Diagnostic::error(key.clone(), message, help).with_origin(origin)
        }));
        let merged = merge(collected, variables, flags).map_err(|message| (None, message))?;
        Ok(tree::node(&merged, Some(&written)))
    });
    match read {
        Ok(root) => Ok(Gathered { root, file, errors }),
        Err((place, message)) => {
            let help = "fix the file, or name another one with --config";
            let error = Diagnostic::error(WHOLE_FILE, message, help);
            errors.insert(0, Diagnostic { place, ..error.with_origin(&origin) });
            Err(errors)
        }
    }
}

/// A path as messages show it.
pub(super) fn shown(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// One source, in the form that the `config` crate expects.
#[derive(Clone, Debug)]
struct Entries(Map<String, Value>);

impl Source for Entries {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Removes quoted keys such as `"http.listen"`, which the `config` crate would read as paths, and returns an error for
/// each.
fn remove_dotted_keys(
    written: &Node,
    collected: &mut Map<String, Value>,
) -> impl Iterator<Item = Diagnostic> {
    let is_path = |key: &str| key.contains(['.', '[']);
    collected.retain(|key, _| !is_path(key));
    let paths = written.table().into_iter().flat_map(Table::iter).filter(move |(key, _)| is_path(key));
    paths.map(|(key, node)| {
        let message = "there is no such key: a quoted key cannot contain its section";
        let help = "write the key without quotation marks, below a line with its [section]";
        Diagnostic { place: node.place, ..Diagnostic::error(plain(key), message, help) }
    })
}

/// Whether the file has a list of tables at this path.
fn is_list_of_tables(written: &Map<String, Value>, path: &str) -> bool {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| written.get(name));
    let found = names.try_fold(first, |value, name| {
        if let ValueKind::Table(table) = &value?.kind { Some(table.get(name)) } else { None }
    });
    let is_table = |value: &Value| matches!(value.kind, ValueKind::Table(_));
    found
        .flatten()
        .is_some_and(|value| matches!(&value.kind, ValueKind::Array(list) if list.iter().any(is_table)))
}

fn merge(
    written: Map<String, Value>,
    mut variables: Map<String, Value>,
    mut flags: Map<String, Value>,
) -> Result<Value, String> {
    // The `config` crate would overwrite a section that is not a table, which would hide that error.
    let is_broken = |key: &String| {
        let section = key.split('.').next().and_then(|section| written.get(section));
        section.is_some_and(|section| !matches!(section.kind, ValueKind::Table(_)))
    };
    variables.retain(|key, _| !is_broken(key));
    flags.retain(|key, _| !is_broken(key));
    let layers = vec![Entries(written), Entries(variables), Entries(flags)];
    let merged = ::config::Config::builder().add_source(layers).build();
    merged.map(|merged| merged.cache).map_err(|error| error.to_string())
}

/// Reads a text file of limited size.
pub(super) fn text_of(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| format!("the file cannot be read: {error}"))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(format!("the file has more than {MAX_FILE_BYTES} bytes, too many for a configuration"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

fn variables(
    environment: &[(String, String)],
    keys: &KnownKeys,
    errors: &mut Vec<Diagnostic>,
) -> Map<String, Value> {
    let mut entries = Map::new();
    for (name, value) in environment {
        let is_used = cfg!(feature = "otlp") || !name.starts_with(OTEL);
        let common = COMMON_VARIABLES.iter().find(|(common, _)| common == name && is_used);
        if let Some((_, key)) = common.filter(|_| !value.is_empty()) {
            insert(&mut entries, key, name, value, errors);
        }
    }
    for (name, value) in environment {
        let Some(name_of_key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let key = name_of_key.to_lowercase().replace("__", ".");
        if keys.can_be_set(&key) {
            insert(&mut entries, &key, name, value, errors);
        } else if !OTHER_VARIABLES.contains(&name.as_str()) && !is_service_link(name_of_key, value) {
            errors.push(unknown_variable(name, &key, keys).with_origin("environment"));
        }
    }
    entries
}

/// The variable that sets a key.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

fn unknown_variable(name: &str, key: &str, keys: &KnownKeys) -> Diagnostic {
    if let Some(new) = renamed(key) {
        let help = format!("rename the variable to {}", variable_of(new));
        return Diagnostic::error(plain(name), is_called_now(key, new), help);
    }
    let other = "remove it, or write TIDEGATE_SECTION__KEY with a section and a key of it; only the file can have lists of \
                 tables such as [[role]]";
    let help = did_you_mean(key, keys, variable_of).unwrap_or_else(|| other.to_owned());
    Diagnostic::error(plain(name), "no key belongs to this variable", help)
}

fn flags(flags: &[(String, String)], keys: &KnownKeys, errors: &mut Vec<Diagnostic>) -> Map<String, Value> {
    let mut entries = Map::new();
    for (key, value) in flags {
        let name = format!("{FLAG}{}", plain(key));
        if keys.can_be_set(key) {
            insert(&mut entries, key, &name, value, errors);
        } else {
            errors.push(unknown_flag(name, key, keys).with_origin("command line"));
        }
    }
    entries
}

fn unknown_flag(name: String, key: &str, keys: &KnownKeys) -> Diagnostic {
    if let Some(new) = renamed(key) {
        return Diagnostic::error(name, is_called_now(key, new), format!("write {FLAG}{new}"));
    }
    let other = "remove it; config.toml lists every key. A flag names one as section.key; only the file can have \
                 [[endpoint]], [[role]] and other lists of tables";
    let help =
        did_you_mean(key, keys, |intended| format!("{FLAG}{intended}")).unwrap_or_else(|| other.to_owned());
    Diagnostic::error(name, "there is no such key", help)
}

/// The help for a misspelt key, with the intended one as the source writes it.
fn did_you_mean(key: &str, keys: &KnownKeys, write: impl Fn(&str) -> String) -> Option<String> {
    let intended = suggest::key(key, &keys.names()).filter(|intended| keys.can_be_set(intended))?;
    Some(format!("did you mean {}?", write(&intended)))
}

fn is_called_now(old: &str, new: &str) -> String {
    format!("`{old}` is called `{new}` now")
}

fn insert(
    entries: &mut Map<String, Value>,
    key: &str,
    name: &str,
    value: &str,
    errors: &mut Vec<Diagnostic>,
) {
    if value.contains(char::REPLACEMENT_CHARACTER) {
        let message = "the value is not UTF-8 text";
        let help = "write it in UTF-8; encode a binary secret as text, for example as base64";
        errors.push(Diagnostic::error(key, message, help).with_origin(name));
        return;
    }
    entries.insert(key.to_owned(), Value::new(Some(&name.to_owned()), value));
}

/// Kubernetes sets such variables for services named `tidegate` or `tidegate-…`. They are ignored, because otherwise a
/// node could not start in the namespace of its own service.
fn is_service_link(name: &str, value: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_link = |words: &[&str]| match words {
        ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] => true,
        ["PORT"] => value.contains("://"),
        ["PORT", port, "TCP" | "UDP" | "SCTP", rest @ ..] => {
            port.parse::<u16>().is_ok() && matches!(rest, [] | ["PROTO" | "PORT" | "ADDR"])
        }
        _ => false,
    };
    !words.contains(&"") && (0..words.len()).any(|start| is_link(&words[start..]))
}
