//! The sources of a configuration, merged into one tree: the file, then the environment, then flags. What a
//! key means is not looked at here, only whether a variable or a flag names one.

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
use crate::config::suggest;
use crate::config::tree;
use crate::config::tree::FLAG;

const PREFIX: &str = "TIDEGATE_";
/// Variables that are not keys: of `tidegate dev` and of the scripts that build and test.
const BESIDE: [&str; 4] = ["TIDEGATE_NATS_SERVER", "TIDEGATE_CACHE", "TIDEGATE_CHROMIUM", "TIDEGATE_PYTHON2"];
const DEFAULT_FILE: &str = "config.toml";

/// More than any configuration needs; a device that never ends is not read for ever.
const LONGEST_FILE: u64 = 1_048_576;

/// Variables that others set too. Ours of the same meaning is stronger; an empty one counts as absent.
const FOREIGN: [(&str, &str); 5] = [
    ("NATS_URL", "nats.url"),
    ("NATS_CREDS", "nats.creds_file"),
    ("NATS_USER", "nats.user"),
    ("NATS_PASSWORD", "nats.password"),
    ("RUST_LOG", "log.filter"),
];

/// What a configuration is made of, the stronger later. It holds secrets, and so cannot be printed.
#[derive(Clone, Default)]
pub struct Sources {
    /// `None`: `config.toml` in the working directory where it exists, else the defaults.
    pub file: Option<PathBuf>,
    pub environment: Vec<(String, String)>,
    /// Keys as in the file, `http.listen`, with their values.
    pub flags: Vec<(String, String)>,
}

/// Values of the file carry no origin, those of variables and flags the name of the variable or flag.
pub(super) struct Gathered {
    pub(super) root: Node,
    pub(super) file: Option<PathBuf>,
    pub(super) mistakes: Vec<Diagnostic>,
}

/// `Err` where the file cannot be read at all: the rest would be judged without it, and wrongly.
pub(super) fn gather(sources: &Sources, keys: &KnownKeys) -> Result<Gathered, Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let variables = variables(&sources.environment, keys, &mut mistakes);
    let flags = flags(&sources.flags, keys, &mut mistakes);
    let file =
        sources.file.clone().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
    let origin = file.as_deref().map_or_else(|| DEFAULT_FILE.to_owned(), shown);
    let text = file.as_deref().map_or_else(|| Ok(String::new()), text_of);
    let read = text.map_err(|problem| (None, problem)).and_then(|text| {
        let written = parse(&text).map_err(|broken| (Some(broken.place), broken.message))?;
        let collected = File::from_str(&text, FileFormat::Toml).collect();
        let mut collected = collected.map_err(|error| (None, plain(&error.to_string())))?;
        mistakes.extend(without_paths(&written, &mut collected).map(|mistake| mistake.with_origin(&origin)));
        let merged = merge(collected, variables, flags).map_err(|problem| (None, problem))?;
        Ok(tree::node(&merged, Some(&written)))
    });
    match read {
        Ok(root) => Ok(Gathered { root, file, mistakes }),
        Err((place, problem)) => {
            let error =
                Diagnostic::error(WHOLE_FILE, problem, "mend the file, or name another with --config");
            mistakes.insert(0, Diagnostic { place, ..error.with_origin(&origin) });
            Err(mistakes)
        }
    }
}

/// A path as it may be in a message.
pub(super) fn shown(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// One source, as the `config` crate takes it.
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

/// The `config` crate takes a quoted key such as `"http.listen"` for a path into the tree. Takes them out.
fn without_paths(written: &Node, collected: &mut Map<String, Value>) -> impl Iterator<Item = Diagnostic> {
    let is_path = |key: &str| key.contains(['.', '[']);
    collected.retain(|key, _| !is_path(key));
    let paths = written.table().into_iter().flat_map(Table::iter).filter(move |(key, _)| is_path(key));
    paths.map(|(key, node)| {
        let problem = "there is no such key: a section is not a part of its keys";
        let cure = "write the key without quotation marks below a line [section]";
        Diagnostic { place: node.place, ..Diagnostic::error(plain(key), problem, cure) }
    })
}

fn merge(
    written: Map<String, Value>,
    mut variables: Map<String, Value>,
    mut flags: Map<String, Value>,
) -> Result<Value, String> {
    // The `config` crate would overwrite a section that is no table, and its mistake would never be seen.
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

/// The text of a file, if it is no larger than any that people write.
pub(super) fn text_of(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| format!("it cannot be read: {error}"))?;
    if length as u64 > LONGEST_FILE {
        return Err(format!("it has more than {LONGEST_FILE} bytes, which is not a configuration"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

fn variables(
    environment: &[(String, String)],
    keys: &KnownKeys,
    mistakes: &mut Vec<Diagnostic>,
) -> Map<String, Value> {
    let mut entries = Map::new();
    for (name, value) in environment {
        let foreign = FOREIGN.iter().find(|(foreign, _)| foreign == name);
        if let Some((_, key)) = foreign.filter(|_| !value.is_empty()) {
            insert(&mut entries, key, name, value, mistakes);
        }
    }
    for (name, value) in environment {
        let Some(name_of_key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let key = name_of_key.to_lowercase().replace("__", ".");
        if keys.can_be_set(&key) {
            insert(&mut entries, &key, name, value, mistakes);
        } else if !BESIDE.contains(&name.as_str()) && !is_service_link(name_of_key, value) {
            let meant = suggest::key(&key, &keys.names()).filter(|meant| keys.can_be_set(meant));
            let cure = meant.map_or_else(
                || {
                    "remove it, or name a key of a section as TIDEGATE_SECTION__KEY; lists of tables such as [[role]] \
                     can be written in the file only"
                        .to_owned()
                },
                |meant| format!("did you mean {PREFIX}{}?", meant.to_uppercase().replace('.', "__")),
            );
            let problem = "there is no key for this variable";
            mistakes.push(Diagnostic::error(plain(name), problem, cure).with_origin("environment"));
        }
    }
    entries
}

fn flags(flags: &[(String, String)], keys: &KnownKeys, mistakes: &mut Vec<Diagnostic>) -> Map<String, Value> {
    let mut entries = Map::new();
    for (key, value) in flags {
        let name = format!("{FLAG}{}", plain(key));
        if keys.can_be_set(key) {
            insert(&mut entries, key, &name, value, mistakes);
        } else {
            let meant = suggest::key(key, &keys.names()).filter(|meant| keys.can_be_set(meant));
            let cure = meant.map_or_else(
                || "remove it; config.toml names every key, as section.key".to_owned(),
                |meant| format!("did you mean {FLAG}{meant}?"),
            );
            let problem = "there is no key for this flag";
            mistakes.push(Diagnostic::error(name, problem, cure).with_origin("command line"));
        }
    }
    entries
}

fn insert(
    entries: &mut Map<String, Value>,
    key: &str,
    name: &str,
    value: &str,
    mistakes: &mut Vec<Diagnostic>,
) {
    if value.contains(char::REPLACEMENT_CHARACTER) {
        let problem = "the value is not UTF-8 text";
        let cure = "write it in UTF-8; a binary secret goes into a file as text, for example as base64";
        mistakes.push(Diagnostic::error(key, problem, cure).with_origin(name));
        return;
    }
    entries.insert(key.to_owned(), Value::new(Some(&name.to_owned()), value));
}

/// Kubernetes sets such variables for a service that is called `tidegate` or `tidegate-…`. They are none of
/// ours, and a node that refused them could not start next to its own service.
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
