//! Compile: turns the file of a vocabulary into a [`CompiledVocabulary`], or reports everything that is wrong with it.

mod actions;
mod apart;
mod check;
mod conditions;
mod dispatch;
mod http;
mod messages;
mod parameters;
mod rules;
mod sections;
mod switches;
mod template_place;

use std::cell::RefCell;
use std::collections::BTreeSet;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::ValueError;
use tidegate_document::diagnostic::WHOLE_FILE;
use tidegate_document::diagnostics::Diagnostics;
use tidegate_document::diagnostics::Findings;
use tidegate_document::node::Node;
use tidegate_document::node::Value;
use tidegate_document::parse::parse;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::json::Step;

use crate::channel::Channel;
use crate::channel::ChannelError;
use crate::compile::parameters::ParameterOwner;
use crate::compile::parameters::ParameterUse;
use crate::compile::parameters::ParameterUses;
use crate::compile::template_place::TemplatePlace;
use crate::file::template;
use crate::json_template::JsonTemplate;
use crate::json_template::JsonTemplateError;
use crate::json_template::Tree;
use crate::model::CompiledVocabulary;
use crate::model::Field;
use crate::model::HttpIndex;
use crate::model::Literal;
use crate::model::Matcher;
use crate::model::MessageTest;
use crate::model::Require;
use crate::model::Switch;
use crate::placeholder::Placeholder;
use crate::placeholder::PlaceholderError;
use crate::placeholder::Scope;
use crate::placeholder::Source;
use crate::placeholder::known_filters;
use crate::placeholder::known_placeholders;
use crate::route::PathIndex;
use crate::statistics;
use crate::time_format::TimeFormat;

/// A vocabulary that compiled without errors.
#[derive(Debug)]
pub struct Compiled {
    pub vocabulary: CompiledVocabulary,
    /// Findings that are allowed but probably not intended.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles a vocabulary, or returns all errors. Checks of rules against each other run only when every rule is valid
/// alone, because one typo would otherwise cause many errors.
pub fn compile(text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(text, &[])
}

/// Compiles a vocabulary with these switches on. Names that its `[switches]` does not have are ignored:
/// [`CompiledVocabulary::check_switch`] finds them.
pub fn compile_with(text: &str, switches: &[&str]) -> Result<Compiled, Vec<Diagnostic>> {
    read(text, switches).map(|(_, compiled)| compiled)
}

/// Compiles a vocabulary and returns the parsed file too.
pub(crate) fn read(text: &str, switches: &[&str]) -> Result<(Node, Compiled), Vec<Diagnostic>> {
    let file = parse(text).map_err(|broken| {
        let help = "correct that line, then check again";
        let error = Diagnostic::error(WHOLE_FILE, broken.message, help);
        vec![Diagnostic { place: Some(broken.place), ..error }]
    })?;
    let diagnostics = Diagnostics::of_file(&file, "");
    let vocabulary = Compiler::new(&diagnostics).file(&Section::root(&diagnostics), switches);
    let Findings { errors, warnings } = diagnostics.finish();
    let vocabulary = vocabulary.with_source(text, switches);
    if errors.is_empty() { Ok((file, Compiled { vocabulary, warnings })) } else { Err(errors) }
}

/// The paths whose parameters a template may read as `{path.x}`.
#[derive(Clone, Copy)]
enum PathScope<'s> {
    /// Paths where clients connect.
    Paths(&'s [PathIndex]),
    /// The path of one kind of HTTP request.
    Http(HttpIndex),
}

impl PathScope<'_> {
    fn owners(self) -> Vec<ParameterOwner> {
        match self {
            Self::Paths(paths) => paths.iter().copied().map(ParameterOwner::Path).collect(),
            Self::Http(route) => vec![ParameterOwner::Http(route)],
        }
    }
}

/// The name and parameters of a `[[path]]` or an `[[http]]`.
#[derive(Clone)]
struct DeclaredPath {
    name: Box<str>,
    parameters: Vec<Box<str>>,
}

/// Collects what the sections of a file refer to.
struct Compiler<'m> {
    diagnostics: &'m Diagnostics<'m>,
    time: TimeFormat,
    paths: Vec<DeclaredPath>,
    http_paths: Vec<DeclaredPath>,
    switches: Vec<Switch>,
    /// Whether it reads the rules that are off, not those that are on.
    reads_off: bool,
    queries: RefCell<BTreeSet<Box<str>>>,
    query_lists: RefCell<BTreeSet<Box<str>>>,
    headers: RefCell<BTreeSet<Box<str>>>,
    parameters: RefCell<ParameterUses>,
    kept: RefCell<BTreeSet<Box<str>>>,
    set: RefCell<BTreeSet<Box<str>>>,
    /// Variables that some rule sets to something else than parts of the message, the path or the query.
    foreign: RefCell<BTreeSet<Box<str>>>,
    /// Variables that may be several tokens of a subject, each with its key.
    dotted: RefCell<Vec<(String, Box<str>)>>,
    /// Placeholders `{sub.x}` and `{var.x}`, each with its key: some rule must keep or set the value.
    unresolved: RefCell<Vec<(String, Source)>>,
    claims: RefCell<BTreeSet<Box<str>>>,
    /// The parts of messages that placeholders read.
    messages: RefCell<Vec<Vec<Step>>>,
    /// The groups whose items statistics list.
    counted: RefCell<BTreeSet<Box<str>>>,
    fields: RefCell<Vec<(Box<str>, Field)>>,
}

impl<'m> Compiler<'m> {
    fn new(diagnostics: &'m Diagnostics<'m>) -> Self {
        Self {
            diagnostics,
            time: TimeFormat::default(),
            paths: Vec::new(),
            http_paths: Vec::new(),
            switches: Vec::new(),
            reads_off: false,
            queries: RefCell::default(),
            query_lists: RefCell::default(),
            headers: RefCell::default(),
            parameters: RefCell::default(),
            kept: RefCell::default(),
            set: RefCell::default(),
            foreign: RefCell::default(),
            dotted: RefCell::default(),
            unresolved: RefCell::default(),
            claims: RefCell::default(),
            messages: RefCell::default(),
            counted: RefCell::default(),
            fields: RefCell::default(),
        }
    }

    /// Compiles a template, if the key is there.
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

    /// Compiles a template that is a text.
    fn text_template(
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
                section.error(name, error.to_string(), help);
                None
            }
        }
    }

    /// Compiles a table of templates, such as `keep`.
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

    /// Reads a text that is one placeholder.
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
            section.error(name, "is not a placeholder", "write one, such as \"{msg.symbols}\"");
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
            Ok(placeholder) if placeholder.is_dotted => {
                let error = JsonTemplateError::Dotted { name: placeholder.name };
                section.error(name, error.to_string(), help_of(&error));
                None
            }
            Ok(placeholder) => {
                self.check_placeholder(section, name, &placeholder, place, paths);
                Some(placeholder)
            }
            Err(error) => {
                section.error(name, error.to_string(), help_of_placeholder(&error));
                None
            }
        }
    }

    /// Compiles a subject template.
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
                            section.error(name, problem, "add each = \"{msg.…}\"");
                        }
                        continue;
                    }
                    self.check_placeholder(section, name, placeholder, place, paths);
                    if let Source::Path(parameter) = &placeholder.source {
                        // The name of a user need not be a token.
                        if placeholder.is_user_token() {
                            continue;
                        }
                        let used =
                            if placeholder.is_dotted { ParameterUse::Dotted } else { ParameterUse::Token };
                        self.parameters.borrow_mut().add(&paths.owners(), parameter, used);
                    } else if let (Source::Variable(variable), true) =
                        (&placeholder.source, placeholder.is_dotted)
                    {
                        self.dotted.borrow_mut().push((section.location().of(name), variable.clone()));
                    }
                }
                Some(channel)
            }
            Err(error) => {
                let help = match &error {
                    ChannelError::Template(error) => help_of(error),
                    ChannelError::DottedPlace { name } => {
                        format!("write it last, with a dot before it, such as \"prices.{{{name}|dotted}}\"")
                    }
                    ChannelError::DottedSource { .. } => "take `dotted` out".to_owned(),
                    ChannelError::Subject(_) | ChannelError::TwoPlaceholders | ChannelError::Optional => {
                        "write tokens with dots between them, such as \"prices.{msg.symbol}\"".to_owned()
                    }
                };
                section.error(name, error.to_string(), help);
                None
            }
        }
    }

    /// Reads `require`, such as `require = { "path.user_id" = "{user}" }`.
    fn requires(&self, section: &Section<'_>, place: TemplatePlace, paths: PathScope<'_>) -> Box<[Require]> {
        let Some(table) = section.table("require") else { return Box::default() };
        let requires = table.entries().filter_map(|(key, value)| {
            let left = self.bare_placeholder(&table, key, key, place, paths)?;
            let is_given = matches!(left.source.scope(), Scope::Session | Scope::Message)
                && !matches!(left.source, Source::User | Source::Claims | Source::Session | Source::Node);
            if !is_given || left.source == Source::Item {
                let help = "compare path.x, query.x, header.x or msg.x";
                table.error(key, "is not what a client gives", help);
            }
            let right = template(&table, key, value)?;
            let right = self.compiled(&table, key, &right, TemplatePlace::Session, paths)?;
            for compared in right.placeholders().into_iter().chain([&left]) {
                if let Source::Path(parameter) = &compared.source {
                    self.parameters.borrow_mut().add(&paths.owners(), parameter, ParameterUse::Compared);
                }
            }
            Some(Require { left, right })
        });
        requires.collect()
    }

    /// Reads a `when` on messages.
    fn tests(&self, section: &Section<'_>, name: &'static str) -> Box<[MessageTest]> {
        let Some(table) = section.table(name) else { return Box::default() };
        let mut tests = Vec::new();
        table.entries().for_each(|(key, value)| self.test(&table, &[key], value, &mut tests));
        tests.into()
    }

    fn test(&self, table: &Section<'_>, path: &[&str], value: &Node, tests: &mut Vec<MessageTest>) {
        let key = path.join(".");
        if let Value::Table(inner) = &value.value {
            for (name, value) in inner.iter() {
                self.test(table, &[path, &[name]].concat(), value, tests);
            }
            return;
        }
        if let Some(matcher) = self.matcher(table, &key, value) {
            tests.push(MessageTest { path: path.iter().map(|name| Step::read(name)).collect(), matcher });
        }
    }

    fn matcher(&self, table: &Section<'_>, key: &str, value: &Node) -> Option<Matcher> {
        if let Some(is_there) = value.boolean() {
            return Some(if is_there { Matcher::Present } else { Matcher::Absent });
        }
        let literals = value.list().unwrap_or_else(|| std::slice::from_ref(value));
        if literals.is_empty() {
            table.error(key, "an empty list matches nothing", "name at least one value, or remove it");
            return None;
        }
        let of_list =
            |value: &Node| literal(value).or_else(|| value.list()?.is_empty().then_some(Literal::EmptyList));
        let literals: Option<Box<[Literal]>> = literals.iter().map(of_list).collect();
        if literals.is_none() {
            let help = "write a text, a whole number, a list of them, true (there) or false (absent)";
            table.refuse(key, value, ValueError::new("cannot be compared with a message", help));
        }
        literals.map(Matcher::OneOf)
    }

    /// Checks that a placeholder has a value here, and records what it refers to.
    fn check_placeholder(
        &self,
        section: &Section<'_>,
        name: &str,
        placeholder: &Placeholder,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) {
        let source = &placeholder.source;
        if let Some((problem, help)) = place.rejects(&placeholder.name, source) {
            section.error(name, problem, help);
            return;
        }
        if let Source::Path(parameter) = source {
            self.check_parameter(section, name, parameter, paths);
        } else if let Source::Query(query) = source {
            self.queries.borrow_mut().insert(query.clone());
        } else if let Source::QueryList(query) = source {
            self.queries.borrow_mut().insert(query.clone());
            self.query_lists.borrow_mut().insert(query.clone());
        } else if let Source::Header(header) = source {
            self.headers.borrow_mut().insert(header.clone());
        } else if *source == Source::Stats {
            let figure = placeholder.field().unwrap_or_default();
            if !statistics::NAMES.contains(&figure) {
                let known = statistics::NAMES.join(", ");
                let help = format!("{}there are {known}", did_you_mean(figure, &statistics::NAMES));
                section.error(name, format!("there is no statistic \"{figure}\""), help);
            }
            self.counted.borrow_mut().extend(placeholder.group_of_items().map(Box::from));
        } else if *source == Source::Claims {
            self.claims.borrow_mut().extend(placeholder.field().map(Box::from));
        } else if *source == Source::Message {
            self.messages.borrow_mut().push(placeholder.steps().to_vec());
        } else if matches!(source, Source::Subscription(_)) && place == TemplatePlace::Deliver {
            // Whether rules keep it on each path is checked when all rules are known.
        } else if matches!(source, Source::Subscription(_) | Source::Variable(_)) {
            self.unresolved.borrow_mut().push((section.location().of(name), source.clone()));
        }
    }

    /// Reports a parameter that a path does not have.
    fn check_parameter(&self, section: &Section<'_>, name: &str, parameter: &str, paths: PathScope<'_>) {
        for path in self.declared_paths(paths) {
            let known: Vec<&str> = path.parameters.iter().map(|known| &**known).collect();
            if !known.contains(&parameter) {
                let help = if known.is_empty() {
                    "this path has no parameters".to_owned()
                } else {
                    format!("{}its parameters are {}", did_you_mean(parameter, &known), known.join(", "))
                };
                let problem = format!("path \"{}\" has no parameter {{{parameter}}}", path.name);
                section.error(name, problem, help);
            }
        }
    }

    fn declared_paths(&self, paths: PathScope<'_>) -> Vec<&DeclaredPath> {
        match paths {
            PathScope::Paths(paths) => {
                paths.iter().filter_map(|path| self.paths.get(usize::from(path.0))).collect()
            }
            PathScope::Http(route) => self.http_paths.get(usize::from(route.0)).into_iter().collect(),
        }
    }

    /// Reports values that no rule keeps or sets, and variables that may be several tokens but are not the client's.
    fn check_unresolved(&self) {
        for (key, variable) in self.dotted.take() {
            if self.foreign.borrow().contains(&variable) {
                let problem = format!(
                    "{{var.{variable}}} is always one token: a rule sets it to something else than a part of the message, \
                     the path or the query"
                );
                self.diagnostics.at_key(Diagnostic::error(key, problem, "take `dotted` out"));
            }
        }
        for (key, source) in self.unresolved.take() {
            let (kind, name, given) = if let Source::Subscription(name) = &source {
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
        Value::Whole(number) => Some(Literal::Integer(*number)),
        Value::Boolean(truth) => Some(Literal::Boolean(*truth)),
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
        JsonTemplateError::Dotted { .. } => {
            "take `dotted` out: only the last place of a channel or subject may be several tokens".to_owned()
        }
        JsonTemplateError::Spread => "write a placeholder there".to_owned(),
        JsonTemplateError::TooLarge => "make the message smaller, or split it into several".to_owned(),
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
        PlaceholderError::Form { .. } => "write it in this form".to_owned(),
        PlaceholderError::Filter { name } => {
            let known: Vec<&str> = known_filters().collect();
            format!("{}known are {}", did_you_mean(name, &known), known.join(", "))
        }
        PlaceholderError::TwoFallbacks { .. } => "keep one".to_owned(),
        PlaceholderError::NoInstant { .. } => {
            "remove it: only {now}, {time} and {since} are times".to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
