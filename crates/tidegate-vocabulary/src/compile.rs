//! Compile: the file of a vocabulary → a [`CompiledVocabulary`], or every mistake in it.

mod calls;
mod check;
mod dispatch;
mod place;
mod rules;
mod sections;
mod words;

use std::cell::RefCell;
use std::collections::BTreeSet;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::WHOLE_FILE;
use tidegate_document::diagnostic::Wrong;
use tidegate_document::diagnostics::Diagnostics;
use tidegate_document::diagnostics::Found;
use tidegate_document::node::Node;
use tidegate_document::node::Value;
use tidegate_document::parse::parse;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::json::Step;

use crate::channel::Channel;
use crate::channel::ChannelError;
use crate::compile::place::TemplatePlace;
use crate::json_template::JsonTemplate;
use crate::json_template::JsonTemplateError;
use crate::json_template::Tree;
use crate::model::CompiledVocabulary;
use crate::model::Field;
use crate::model::HttpIndex;
use crate::model::Is;
use crate::model::Literal;
use crate::model::PathIndex;
use crate::model::Require;
use crate::model::Test;
use crate::placeholder::Placeholder;
use crate::placeholder::PlaceholderError;
use crate::placeholder::Scope;
use crate::placeholder::Source;
use crate::placeholder::TimeFormat;
use crate::placeholder::known_filters;
use crate::placeholder::known_placeholders;
use crate::source::template;
use crate::statistics;

/// A vocabulary without mistakes.
#[derive(Debug)]
pub struct Compiled {
    /// The vocabulary.
    pub described: CompiledVocabulary,
    /// What its file probably does not mean.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a vocabulary. All of its mistakes are found at once, but for what rules say of each other: that is looked at when
/// each of them is sound, for a slip in one would show as a mistake of many.
pub fn compile(text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    read(text).map(|(_, compiled)| compiled)
}

/// The same, and the file that was read.
pub(crate) fn read(text: &str) -> Result<(Node, Compiled), Vec<Diagnostic>> {
    let file = parse(text).map_err(|broken| {
        let help = "mend that line, and see what is said next";
        let error = Diagnostic::error(WHOLE_FILE, broken.message, help);
        vec![Diagnostic { place: Some(broken.place), ..error }]
    })?;
    let diagnostics = Diagnostics::of_file(&file, "");
    let described = Compiler::new(&diagnostics).file(&Section::root(&diagnostics));
    let Found { errors, warnings } = diagnostics.finish();
    if errors.is_empty() { Ok((file, Compiled { described, warnings })) } else { Err(errors) }
}

/// What a template belongs to: its `{path.x}` are the parameters of these paths.
#[derive(Clone, Copy)]
enum PathScope<'s> {
    /// Paths where clients come in.
    Paths(&'s [PathIndex]),
    /// The path of one kind of HTTP request.
    Http(HttpIndex),
}

/// A path that rules may name, or that of a call.
struct KnownPath {
    name: Box<str>,
    parameters: Vec<Box<str>>,
}

/// What is gathered while the sections are read.
struct Compiler<'m> {
    diagnostics: &'m Diagnostics<'m>,
    time: TimeFormat,
    paths: Vec<KnownPath>,
    calls: Vec<KnownPath>,
    queries: RefCell<BTreeSet<Box<str>>>,
    headers: RefCell<BTreeSet<Box<str>>>,
    /// Parameters that must be tokens.
    tokens: RefCell<BTreeSet<Box<str>>>,
    kept: RefCell<BTreeSet<Box<str>>>,
    set: RefCell<BTreeSet<Box<str>>>,
    /// Placeholders that need a name which some rule gives: where, the name, and whether it is kept or set.
    owed: RefCell<Vec<(String, Source)>>,
    claims: RefCell<BTreeSet<Box<str>>>,
    /// The paths into messages.
    messages: RefCell<Vec<Vec<Step>>>,
    /// Groups whose items statistics name.
    counted: RefCell<BTreeSet<Box<str>>>,
    fields: RefCell<Vec<(Box<str>, Field)>>,
}

impl<'m> Compiler<'m> {
    fn new(diagnostics: &'m Diagnostics<'m>) -> Self {
        Self {
            diagnostics,
            time: TimeFormat::default(),
            paths: Vec::new(),
            calls: Vec::new(),
            queries: RefCell::default(),
            headers: RefCell::default(),
            tokens: RefCell::default(),
            kept: RefCell::default(),
            set: RefCell::default(),
            owed: RefCell::default(),
            claims: RefCell::default(),
            messages: RefCell::default(),
            counted: RefCell::default(),
            fields: RefCell::default(),
        }
    }

    /// A template that may be there.
    fn json_template(
        &self,
        section: &Section<'_>,
        name: &'static str,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Option<JsonTemplate> {
        let tree = template(section, name, section.get(name)?)?;
        self.compiled(section, name, &tree, place, paths)
    }

    /// A text template.
    fn text_shape(
        &self,
        section: &Section<'_>,
        name: &'static str,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Option<JsonTemplate> {
        let text = section.text(name)?;
        self.compiled(section, name, &Tree::Text(text.to_owned()), place, paths)
    }

    fn compiled(
        &self,
        section: &Section<'_>,
        name: &str,
        tree: &Tree,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Option<JsonTemplate> {
        match JsonTemplate::compile(tree, self.time) {
            Ok(json_template) => {
                json_template
                    .placeholders()
                    .into_iter()
                    .for_each(|placeholder| self.check_placeholder(section, name, placeholder, place, paths));
                Some(json_template)
            }
            Err(error) => {
                let help = help_of(&error);
                section.mistake(name, error.to_string(), help);
                None
            }
        }
    }

    /// A table of templates, such as `keep`.
    fn json_templates(
        &self,
        section: &Section<'_>,
        name: &'static str,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Box<[(Box<str>, JsonTemplate)]> {
        let Some(table) = section.table(name) else { return Box::default() };
        let json_templates = table.entries().filter_map(|(key, value)| {
            let json_template = self.compiled(&table, key, &template(&table, key, value)?, place, paths)?;
            Some((key.into(), json_template))
        });
        json_templates.collect()
    }

    /// One placeholder and nothing else.
    fn placeholder(
        &self,
        section: &Section<'_>,
        name: &'static str,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Option<Placeholder> {
        let text = section.text(name)?;
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
            section.mistake(name, "is no placeholder", "write one, such as \"{msg.symbols}\"");
            return None;
        };
        self.bare_placeholder(section, name, inner, place, paths)
    }

    fn bare_placeholder(
        &self,
        section: &Section<'_>,
        name: &str,
        text: &str,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Option<Placeholder> {
        match Placeholder::parse(text, self.time) {
            Ok(placeholder) => {
                self.check_placeholder(section, name, &placeholder, place, paths);
                Some(placeholder)
            }
            Err(error) => {
                section.mistake(name, error.to_string(), help_of_placeholder(&error));
                None
            }
        }
    }

    /// A subject template.
    fn channel(
        &self,
        section: &Section<'_>,
        name: &str,
        text: &str,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Option<Channel> {
        match Channel::compile(text) {
            Ok(channel) => {
                let has_items = section.entries().any(|(name, _)| name == "each");
                for placeholder in channel.placeholders() {
                    if placeholder.source == Source::Item {
                        if !has_items {
                            let problem = "{item} is an element of each, and there is no each";
                            section.mistake(name, problem, "add each = \"{msg.…}\"");
                        }
                        continue;
                    }
                    self.check_placeholder(section, name, placeholder, place, paths);
                    if let Source::Path(parameter) = &placeholder.source {
                        self.tokens.borrow_mut().insert(parameter.clone());
                    }
                }
                Some(channel)
            }
            Err(error) => {
                let help = match &error {
                    ChannelError::Shape(error) => help_of(error),
                    ChannelError::Subject(_) | ChannelError::TwoHoles | ChannelError::Optional => {
                        "write tokens with dots between them, such as \"prices.{msg.symbol}\"".to_owned()
                    }
                };
                section.mistake(name, error.to_string(), help);
                None
            }
        }
    }

    /// What must be equal, as in `require = { "path.user_id" = "{user}" }`.
    fn requires(&self, section: &Section<'_>, place: TemplatePlace, paths: PathScope<'_>) -> Box<[Require]> {
        let Some(table) = section.table("require") else { return Box::default() };
        let requires = table.entries().filter_map(|(key, value)| {
            let left = self.bare_placeholder(&table, key, key, place, paths)?;
            let is_given = matches!(left.source.scope(), Scope::Session | Scope::Message)
                && !matches!(left.source, Source::User | Source::Claims | Source::Session | Source::Node);
            if !is_given || left.source == Source::Item {
                let help = "compare path.x, query.x, header.x or msg.x";
                table.mistake(key, "is not what a client gives", help);
            }
            let right = template(&table, key, value)?;
            let right = self.compiled(&table, key, &right, TemplatePlace::Session, paths)?;
            Some(Require { left, right })
        });
        requires.collect()
    }

    /// A match of a message.
    fn tests(&self, section: &Section<'_>, name: &'static str) -> Box<[Test]> {
        let Some(table) = section.table(name) else { return Box::default() };
        let mut tests = Vec::new();
        table.entries().for_each(|(key, value)| self.test(&table, &[key], value, &mut tests));
        tests.into()
    }

    fn test(&self, table: &Section<'_>, path: &[&str], value: &Node, tests: &mut Vec<Test>) {
        let key = path.join(".");
        if let Value::Table(inner) = &value.value {
            for (name, value) in inner.iter() {
                self.test(table, &[path, &[name]].concat(), value, tests);
            }
            return;
        }
        if let Some(is) = self.is(table, &key, value) {
            tests.push(Test { path: path.iter().map(|name| Step::read(name)).collect(), is });
        }
    }

    fn is(&self, table: &Section<'_>, key: &str, value: &Node) -> Option<Is> {
        if let Some(is_there) = value.boolean() {
            return Some(if is_there { Is::There } else { Is::Absent });
        }
        let literals = value.list().unwrap_or_else(|| std::slice::from_ref(value));
        if literals.is_empty() {
            table.mistake(key, "an empty list matches nothing", "name at least one value, or remove it");
            return None;
        }
        let literals: Option<Box<[Literal]>> = literals.iter().map(literal).collect();
        if literals.is_none() {
            let help = "write a text, a whole number, a list of them, true (there) or false (absent)";
            table.refuse(key, value, Wrong::new("is nothing to compare with", help));
        }
        literals.map(Is::OneOf)
    }

    /// Notes what a placeholder needs, and whether it may be there.
    fn check_placeholder(
        &self,
        section: &Section<'_>,
        name: &str,
        placeholder: &Placeholder,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) {
        let source = &placeholder.source;
        if let Some((problem, help)) = place.refuses(&placeholder.name, source) {
            section.mistake(name, problem, help);
            return;
        }
        if let Source::Path(parameter) = source {
            self.check_parameter(section, name, parameter, paths);
        } else if let Source::Query(query) = source {
            self.queries.borrow_mut().insert(query.clone());
        } else if let Source::Header(header) = source {
            self.headers.borrow_mut().insert(header.clone());
        } else if *source == Source::Stats {
            let figure = placeholder.field().unwrap_or_default();
            if !statistics::NAMES.contains(&figure) {
                let known = statistics::NAMES.join(", ");
                let help = format!("{}there are {known}", did_you_mean(figure, &statistics::NAMES));
                section.mistake(name, format!("there is no figure \"{figure}\""), help);
            }
            self.counted.borrow_mut().extend(placeholder.group_of_items().map(Box::from));
        } else if *source == Source::Claims {
            self.claims.borrow_mut().extend(placeholder.field().map(Box::from));
        } else if *source == Source::Message {
            self.messages.borrow_mut().push(placeholder.steps().to_vec());
        } else if matches!(source, Source::Kept(_)) && place == TemplatePlace::Deliver {
            // It has to be kept on each path: that is looked at when all rules are known.
        } else if matches!(source, Source::Kept(_) | Source::Variable(_)) {
            self.owed.borrow_mut().push((section.location().of(name), source.clone()));
        }
    }

    /// Notes a parameter that a path does not have.
    fn check_parameter(&self, section: &Section<'_>, name: &str, parameter: &str, paths: PathScope<'_>) {
        for path in self.known_paths(paths) {
            let known: Vec<&str> = path.parameters.iter().map(|known| &**known).collect();
            if !known.contains(&parameter) {
                let help = if known.is_empty() {
                    "it has none".to_owned()
                } else {
                    format!("{}its parameters are {}", did_you_mean(parameter, &known), known.join(", "))
                };
                let problem = format!("path \"{}\" has no parameter {{{parameter}}}", path.name);
                section.mistake(name, problem, help);
            }
        }
    }

    fn known_paths(&self, paths: PathScope<'_>) -> Vec<&KnownPath> {
        match paths {
            PathScope::Paths(paths) => {
                paths.iter().filter_map(|path| self.paths.get(usize::from(path.0))).collect()
            }
            PathScope::Http(route) => self.calls.get(usize::from(route.0)).into_iter().collect(),
        }
    }

    /// Notes names that no rule gives.
    fn check_owed(&self) {
        for (key, source) in self.owed.take() {
            let (kind, name, given) = if let Source::Kept(name) = &source {
                ("keep", name, self.kept.borrow())
            } else if let Source::Variable(name) = &source {
                ("set", name, self.set.borrow())
            } else {
                continue;
            };
            if !given.contains(name) {
                let problem = if kind == "keep" {
                    format!("{{sub.{name}}} is kept by no rule")
                } else {
                    format!("no rule sets {{var.{name}}}")
                };
                let help = format!("add {kind} = {{ {name} = … }} to the rule that knows it");
                self.diagnostics.at_key(Diagnostic::error(key, problem, help));
            }
        }
    }
}

fn literal(value: &Node) -> Option<Literal> {
    match &value.value {
        Value::Text(text) => Some(Literal::Text(text.as_str().into())),
        Value::Whole(number) => Some(Literal::Whole(*number)),
        Value::Boolean(truth) => Some(Literal::Truth(*truth)),
        Value::Float(_) | Value::Time(_) | Value::List(_) | Value::Table(_) => None,
    }
}

fn help_of(error: &JsonTemplateError) -> String {
    match error {
        JsonTemplateError::Placeholder(error) => help_of_placeholder(error),
        JsonTemplateError::Brace { .. } => "write } behind the placeholder, or {{ for a brace".to_owned(),
        JsonTemplateError::OptionalInText { .. } => {
            "give it a member of its own, or write default:".to_owned()
        }
        JsonTemplateError::JsonByHand { placeholder } => {
            format!(
                "write it as a table; a text with the JSON of one value in it is \"{{{placeholder}|string}}\""
            )
        }
        JsonTemplateError::Spread => "write a placeholder there".to_owned(),
        JsonTemplateError::TooLarge => "send less at once".to_owned(),
    }
}

fn help_of_placeholder(error: &PlaceholderError) -> String {
    match error {
        PlaceholderError::Unknown { name } => {
            let known: Vec<&str> = known_placeholders().collect();
            let first = name.split('.').next().unwrap_or_default();
            let firsts: Vec<&str> = known.iter().filter_map(|form| form.split('.').next()).collect();
            format!("{}known are {}", did_you_mean(first, &firsts), known.join(", "))
        }
        PlaceholderError::Form { .. } => "write it so".to_owned(),
        PlaceholderError::Filter { name } => {
            let known: Vec<&str> = known_filters().collect();
            format!("{}known are {}", did_you_mean(name, &known), known.join(", "))
        }
        PlaceholderError::TwoAbsent { .. } => "keep one".to_owned(),
        PlaceholderError::NoInstant { .. } => {
            "remove it: only {now}, {time} and {since} are instants".to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
