//! Switches: compiles `[switches]`, and tells which rules of a file are on.

use std::collections::BTreeSet;

use tidegate_document::node::Node;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::subject::Pattern;

use crate::compile::Compiler;
use crate::compile::sections::declared_path;
use crate::file::tables;
use crate::model::Switch;
use crate::route::PathIndex;

/// The longest name of a switch, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// The sections whose tables a switch turns on or off, besides `[[path.on_connect]]`.
const SWITCHED: [&str; 3] = ["receive", "deliver", "http"];

impl<'m> Compiler<'m> {
    /// Reads `[switches]`. `on` are the switches that are on.
    pub(super) fn read_switches(&mut self, root: &Section<'_>, on: &[&str]) {
        let Some(section) = root.table("switches") else { return };
        for (name, value) in section.entries() {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(legal) {
                let help = "write at most 64 small letters, digits, \"-\" and \"_\"";
                section.error(name, "is not a name for a switch", help);
            }
            let description = value.text().unwrap_or_default();
            if description.trim().is_empty() {
                let help = "say in a text what it does, and which frontend needs it";
                section.error(name, "has no description", help);
            }
            let is_on = on.contains(&name);
            self.switches.push(Switch { name: name.into(), description: description.into(), is_on });
        }
    }

    /// Reports wrong `if` and `unless`, and warns of switches without any.
    pub(super) fn check_switches(&self, root: &Section<'_>) {
        let on_connect = tables(root, "path").into_iter().flat_map(|path| tables(&path, "on_connect"));
        let switched = SWITCHED.into_iter().flat_map(|name| tables(root, name));
        let mut used = BTreeSet::new();
        for section in on_connect.chain(switched) {
            let names = ["if", "unless"].map(|key| self.switch_named(&section, key));
            if names.iter().all(Option::is_some) {
                section.error("unless", "if and unless exclude each other", "keep one of them");
            }
            used.extend(names.into_iter().flatten());
        }
        let Some(section) = root.table("switches") else { return };
        for switch in self.switches.iter().filter(|switch| !used.contains(&*switch.name)) {
            section.warning(&switch.name, "no rule has this switch in `if` or `unless`");
        }
    }

    /// The switch that a key of a rule names. Reports one that the file does not declare.
    fn switch_named<'d>(&self, section: &Section<'d>, key: &'static str) -> Option<&'d str> {
        let name = section.text(key)?;
        let known: Vec<&str> = self.switches.iter().map(|switch| &*switch.name).collect();
        if !known.contains(&name) {
            let help = if known.is_empty() {
                format!("declare it: [switches] {name} = \"what it does\"")
            } else {
                format!("{}[switches] declares {}", did_you_mean(name, &known), known.join(", "))
            };
            section.error(key, format!("there is no switch \"{name}\""), help);
        }
        Some(name)
    }

    /// Whether this compiler reads the rule: rules that are on; in [`Compiler::rules_that_are_off`], the others.
    pub(super) fn reads(&self, section: &Section<'_>) -> bool {
        let is_on = |key| {
            let name = section.get(key).and_then(Node::text)?;
            self.switches.iter().find(|switch| *switch.name == *name).map(|switch| switch.is_on)
        };
        let (needed, excluded) = (is_on("if"), is_on("unless"));
        let is_off = needed == Some(false) || excluded == Some(true);
        is_off == self.reads_off
    }

    /// Compiles the rules that are off, to report their own mistakes. What they refer to is forgotten. Returns patterns
    /// that cover the channels to which they could subscribe.
    pub(super) fn rules_that_are_off(&self) -> Vec<Pattern> {
        let root = Section::root(self.diagnostics);
        let mut off = Compiler {
            time: self.time,
            paths: self.paths.clone(),
            switches: self.switches.clone(),
            reads_off: true,
            ..Compiler::new(self.diagnostics)
        };
        off.http_paths = off.limited_tables(&root, "http").iter().map(declared_path).collect();
        let mut rules = Vec::new();
        for (section, at) in off.limited_tables(&root, "path").iter().zip((0..).map(PathIndex)) {
            off.on_connect(section, at, &mut rules);
        }
        off.receive_rules(&root, &mut rules);
        off.deliver_rules(&root);
        off.http_routes(&root);
        rules.into_iter().flat_map(|placed| placed.channels).collect()
    }
}
