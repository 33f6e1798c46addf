//! `ConfigReport`: every setting in use, with its value and where that is from. Secrets are masked.

use std::collections::BTreeMap;

use tidegate_document::node::Node;
use tidegate_document::node::Table;
use tidegate_document::node::Value;
use tidegate_document::parse::parse;

use crate::config::Config;
use crate::config::keys::KnownKeys;
use crate::config::listen_address::ListenAddress;
use crate::config::nats::address;
use crate::config::tree::Layer;

/// The file that comes with Tidegate has every key with its default.
const DEFAULTS: &str = include_str!("../../config.toml");
/// In place of a secret.
const MASK: &str = "***";

/// The settings of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigReport {
    /// The file that was read. `None`: there is none.
    pub file: Option<String>,
    /// By their keys. Of a list of tables, the key of the list: `role`.
    pub settings: BTreeMap<String, Setting>,
    /// What has changed in the sources since the start and is not in use before a restart, as the log of the reload
    /// names it.
    pub needs_restart: Vec<&'static str>,
}

/// A value in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub value: Value,
    pub origin: SettingOrigin,
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    Default,
    /// The line of the key.
    File {
        line: Option<usize>,
    },
    /// The name of the variable.
    Environment(String),
    /// The flag that sets it.
    Flag(String),
    /// The command has set it, or added to it.
    Command(&'static str),
}

impl ConfigReport {
    /// The report of merged sources without mistakes, and of the configuration that was read from them.
    pub(super) fn new(root: &Node, file: Option<String>, keys: &KnownKeys, config: &Config) -> Self {
        let defaults = parse(DEFAULTS).unwrap_or_default();
        let mut settings = BTreeMap::new();
        for list in keys.lists() {
            let default = if list == "endpoint" { default_endpoints(config) } else { Vec::new() };
            let origin = SettingOrigin::Default;
            settings.insert(list.to_owned(), Setting { value: Value::List(default), origin });
        }
        for (node, is_default) in [(&defaults, true), (root, false)] {
            for (key, node) in leaves(node) {
                let value = typed(node, settings.get(&key).map(|default| &default.value));
                let origin = if is_default { SettingOrigin::Default } else { SettingOrigin::of(node) };
                settings.insert(key.clone(), Setting { value: masked(&key, value, keys), origin });
            }
        }
        Self { file, settings, needs_restart: Vec::new() }
    }

    /// A variable of the hosting platform has set this key.
    pub(super) fn set_by_variable(&mut self, key: &str, variable: &str, address: &ListenAddress) {
        let (value, origin) =
            (Value::Text(address.to_string()), SettingOrigin::Environment(variable.to_owned()));
        self.settings.insert(key.to_owned(), Setting { value, origin });
    }

    /// The command has set this key.
    pub fn set_by_command(&mut self, command: &'static str, key: &str, value: Value) {
        self.settings.insert(key.to_owned(), Setting { value, origin: SettingOrigin::Command(command) });
    }

    /// The command has added to this key.
    pub fn add_by_command(&mut self, command: &'static str, key: &str) {
        if let Some(setting) = self.settings.get_mut(key) {
            setting.origin = SettingOrigin::Command(command);
        }
    }

    /// The report after a reload: what needs a restart is as it was. `needs_restart` has the names that the reload has
    /// found.
    #[must_use]
    pub fn reloaded(&self, new: Self, needs_restart: &[&'static str]) -> Self {
        let is_kept = |key: &str| needs_restart.iter().any(|name| covers(name, key));
        let mut settings = new.settings;
        settings.retain(|key, _| !is_kept(key));
        let kept = self.settings.iter().filter(|(key, _)| is_kept(key));
        settings.extend(kept.map(|(key, setting)| (key.clone(), setting.clone())));
        Self { file: new.file, settings, needs_restart: needs_restart.to_vec() }
    }
}

impl SettingOrigin {
    fn of(node: &Node) -> Self {
        let name = || node.origin.clone().unwrap_or_default();
        match Layer::of(node) {
            Layer::File => Self::File { line: node.place.map(|place| place.line) },
            Layer::Environment => Self::Environment(name()),
            Layer::Flag => Self::Flag(name()),
        }
    }
}

/// Whether what a reload calls `name` includes this key: `[admin]`, `[[role]]`, `http.listen`.
fn covers(name: &str, key: &str) -> bool {
    let one_of = |section: &str, names: &[&str]| {
        key.strip_prefix(section).is_some_and(|key| names.iter().any(|name| key.starts_with(name)))
    };
    match name {
        "the certificates of [tls]" => one_of("tls.", &["cert", "key_file"]),
        "the login of [nats]" => one_of("nats.", &["creds_file", "nkey_file", "user", "password", "token"]),
        _ => {
            let is_section = name.starts_with('[');
            let section = name.trim_matches(['[', ']']);
            key == section
                || is_section && key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
        }
    }
}

/// The values below the tables of a document, with their keys.
fn leaves(root: &Node) -> Vec<(String, &Node)> {
    let (mut found, mut open) = (Vec::new(), vec![(String::new(), root)]);
    while let Some((path, node)) = open.pop() {
        match node.table() {
            Some(table) => open.extend(table.iter().map(|(key, node)| {
                (if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }, node)
            })),
            None => found.push((path, node)),
        }
    }
    found
}

/// The value of a node. That of a variable or flag is a text, whatever it means: it becomes what the default is.
fn typed(node: &Node, default: Option<&Value>) -> Value {
    let read = match default {
        Some(Value::Boolean(_)) => node.boolean().map(Value::Boolean),
        Some(Value::Whole(_)) => node.whole().and_then(|whole| i64::try_from(whole).ok()).map(Value::Whole),
        Some(Value::List(_)) => node.text().map(|text| {
            let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
            Value::List(elements.map(|element| element_of(Value::Text(element.to_owned()))).collect())
        }),
        Some(Value::Text(_) | Value::Float(_) | Value::Time(_) | Value::Table(_)) | None => None,
    };
    read.unwrap_or_else(|| node.value.clone())
}

/// The value without the secrets in it. `key` has `[]` for the elements of a list.
fn masked(key: &str, value: Value, keys: &KnownKeys) -> Value {
    match value {
        Value::Text(text) if text.is_empty() => Value::Text(text),
        Value::Text(_) if keys.is_secret(key) => Value::Text(MASK.to_owned()),
        Value::Text(text) if key == "nats.url" => Value::Text(without_login(&text)),
        Value::List(elements) => {
            let path = if key == "nats.url" { key.to_owned() } else { format!("{key}[]") };
            let mask = |node: Node| Node { value: masked(&path, node.value, keys), ..node };
            Value::List(elements.into_iter().map(mask).collect())
        }
        Value::Table(Table(entries)) => {
            let mask = |(name, node): (String, Node)| {
                let value = masked(&format!("{key}.{name}"), node.value, keys);
                (name, Node { value, ..node })
            };
            Value::Table(Table(entries.into_iter().map(mask).collect()))
        }
        other @ (Value::Text(_) | Value::Whole(_) | Value::Float(_) | Value::Boolean(_) | Value::Time(_)) => {
            other
        }
    }
}

/// An address of NATS, or several with commas, without users, passwords and tokens.
fn without_login(text: &str) -> String {
    if !address::may_have_login(text) {
        return text.to_owned();
    }
    let shown = |text: &str| match address::parse(text.trim()) {
        Ok((url, Some(_))) => url.replacen("://", &format!("://{MASK}@"), 1),
        Ok((url, None)) => url,
        Err(_) => MASK.to_owned(),
    };
    text.split(',').map(shown).collect::<Vec<_>>().join(",")
}

/// The endpoints of a configuration that has none.
fn default_endpoints(config: &Config) -> Vec<Node> {
    let endpoint = |path: &str, vocabulary: &str| {
        let text = |text: &str| element_of(Value::Text(text.to_owned()));
        let entries = vec![("path".to_owned(), text(path)), ("vocabulary".to_owned(), text(vocabulary))];
        element_of(Value::Table(Table(entries)))
    };
    config.endpoints.iter().map(|one| endpoint(&one.path, &one.vocabulary)).collect()
}

fn element_of(value: Value) -> Node {
    Node { value, origin: None, place: None }
}
