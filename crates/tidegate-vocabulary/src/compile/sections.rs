//! Compiles the file of a vocabulary: `[protocol]`, `[[path]]`, `[[deliver]]`, and the rest in the files next to this
//! one.

use std::collections::BTreeSet;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::node::Node;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::json::Step;
use tidegate_protocol::json::paths::JsonPaths;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::subject::Pattern;

use crate::compile::Compiler;
use crate::compile::DeclaredPath;
use crate::compile::PathScope;
use crate::compile::actions::not_yet_supported;
use crate::compile::actions::unknown_section;
use crate::compile::apart::WrittenCollections;
use crate::compile::check;
use crate::compile::check::channels::subscribed;
use crate::compile::check::parts::Parts;
use crate::compile::check::parts::PlacedDeliverRule;
use crate::compile::check::parts::PlacedRule;
use crate::compile::dispatch::dispatch;
use crate::compile::parameters::ParameterOwner;
use crate::compile::rules::RuleContext;
use crate::compile::rules::names_message;
use crate::compile::template_place::TemplatePlace;
use crate::file::reject_unknown_keys;
use crate::file::tables;
use crate::file::texts;
use crate::json_template::JsonTemplate;
use crate::json_template::TemplateSlot;
use crate::language::rules::MAX_ON_CONNECT;
use crate::language::rules::MAX_TABLES;
use crate::model::CompiledVocabulary;
use crate::model::DeliverRule;
use crate::model::Dispatch;
use crate::model::PathRule;
use crate::model::RuleAction;
use crate::model::Segment;
use crate::placeholder::Placeholder;
use crate::placeholder::Source;
use crate::route::DeliverIndex;
use crate::route::PathIndex;
use crate::time_format::TimeFormat;

impl Compiler<'_> {
    /// Compiles the whole file.
    pub(super) fn file(mut self, root: &Section<'_>, switches: &[&str]) -> CompiledVocabulary {
        let name = name_of(root);
        let mut vocabulary = CompiledVocabulary {
            name: name.into(),
            description: root.text("description").unwrap_or_default().into(),
            ..CompiledVocabulary::default()
        };
        if let Some(section) = root.table("protocol") {
            self.protocol(&section, &mut vocabulary);
        }
        let mut subprotocols = std::mem::take(&mut vocabulary.subprotocols).into_vec();
        subprotocols.push(name.into());
        vocabulary.subprotocols = subprotocols.into();
        self.read_switches(root, switches);
        self.check_switches(root);
        let sections = self.limited_tables(root, "path");
        self.paths = sections.iter().map(declared_path).collect();
        self.http_paths = self.limited_tables(root, "http").iter().map(declared_path).collect();
        self.check_duplicate_names(root);
        let mut rules = Vec::new();
        let paths: Vec<PathRule> = sections
            .iter()
            .zip((0..).map(PathIndex))
            .map(|(section, at)| self.path(section, at, &mut rules))
            .collect();
        self.receive_rules(root, &mut rules);
        let (deliver_rules, mut slots) = self.deliver_rules(root);
        let greeting = self.send_of(root, "greeting", TemplatePlace::Session);
        vocabulary.server_messages = self.server_messages(root, &mut slots);
        vocabulary.codes = self.codes(root, &mut vocabulary.server_messages);
        vocabulary.closes = self.closes(root, &mut vocabulary.server_messages);
        vocabulary.heartbeat = self.heartbeat(root);
        vocabulary.unknown = self.unknown(root);
        let paths = paths.into_iter().zip((0..).map(PathIndex)).map(|(path, at)| {
            let greeting = path.greeting.clone().or_else(|| greeting.clone());
            self.with_rules(PathRule { greeting, ..path }, at, &rules, &deliver_rules)
        });
        vocabulary.paths = paths.collect();
        if vocabulary.paths.is_empty() {
            root.error("path", "is missing", "add [[path]] with name and path: where clients connect");
        }
        vocabulary.errors_name_message = vocabulary.server_messages.error.as_ref().is_some_and(names_message);
        let http_routes = self.http_routes(root);
        vocabulary.counted = self.counted.take().into_iter().collect();
        reject_unknown_keys(root, unknown_section);
        let off_channels = self.rules_that_are_off();
        let pong = vocabulary.heartbeat.pong.as_deref();
        self.check(&Parts {
            paths: &vocabulary.paths,
            rules: &rules,
            deliver_rules: &deliver_rules,
            http_routes: &http_routes,
            pong,
            off_channels: &off_channels,
        });
        vocabulary.switches = self.switches.into();
        vocabulary.rules = rules.into_iter().map(|placed| placed.rule).collect();
        vocabulary.deliver_rules = deliver_rules.into_iter().map(|placed| placed.rule).collect();
        vocabulary.http_routes = http_routes.into_iter().map(|placed| placed.route).collect();
        vocabulary.slots = slots.into();
        vocabulary.fields = self.fields.take().into_iter().map(|(_, field)| field).collect();
        vocabulary.queries = self.queries.take().into_iter().collect();
        vocabulary.query_lists = self.query_lists.take().into_iter().collect();
        vocabulary.headers = self.headers.take().into_iter().collect();
        vocabulary.claims = self.claims.take().into_iter().collect();
        vocabulary.data = vocabulary.payload_paths();
        vocabulary.messages = JsonPaths::new(self.messages.take().iter().map(Vec::as_slice));
        vocabulary
    }

    /// Adds the rules of a path to it.
    fn with_rules(
        &self,
        path: PathRule,
        at: PathIndex,
        rules: &[PlacedRule],
        deliver_rules: &[PlacedDeliverRule],
    ) -> PathRule {
        let is_mine = |placed: &PlacedRule| placed.is_received && placed.paths.contains(&at);
        let mine: Vec<RuleId> = rules
            .iter()
            .zip((0..).map(RuleId))
            .filter(|(placed, _)| is_mine(placed))
            .map(|(_, rule)| rule)
            .collect();
        let deliver_rules = deliver_rules
            .iter()
            .zip((0..).map(DeliverIndex))
            .filter(|(placed, _)| placed.paths.contains(&at));
        PathRule {
            has_auth: mine
                .iter()
                .any(|rule| matches!(rules[usize::from(rule.0)].rule.action, RuleAction::Auth(_))),
            dispatch: dispatch(rules, &mine),
            deliver_rules: deliver_rules.map(|(_, rule)| rule).collect(),
            parameters: self.parameters.borrow().in_subjects(&[ParameterOwner::Path(at)]),
            ..path
        }
    }

    /// Runs the checks that compare parts with each other.
    fn check(&self, parts: &Parts<'_>) {
        let add = |found: Vec<Diagnostic>| found.into_iter().for_each(|one| self.diagnostics.at_key(one));
        if !self.diagnostics.refuses_in(&["http"]) {
            add(check::of_http_routes(parts));
        }
        add(check::of_paths(parts));
        if self.diagnostics.refuses_in(&["path", "receive", "deliver"]) {
            return;
        }
        add(check::of_rules(parts));
        self.check_unresolved();
        add(check::warnings(parts));
    }

    fn protocol(&mut self, section: &Section<'_>, vocabulary: &mut CompiledVocabulary) {
        vocabulary.subprotocols =
            texts(section, "subprotocols").unwrap_or_default().into_iter().map(Into::into).collect();
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if vocabulary.subprotocols.iter().any(|name| name.is_empty() || !name.chars().all(token)) {
            section.error(
                "subprotocols",
                "has a value that is not a token",
                "write tokens (RFC 6455 §4.1): letters, digits and \"-._\", such as \"chat.v1\"",
            );
        }
        vocabulary.is_subprotocol_required = section.boolean("required").unwrap_or(false);
        if let Some(encoding) = section.text("encoding")
            && encoding != "json"
        {
            section.error("encoding", "only \"json\" is supported", "remove it, or write \"json\"");
        }
        if let Some(time) = section.text("time") {
            match TimeFormat::by_name(time) {
                Some(time) => self.time = time,
                None => {
                    let known: Vec<&str> = TimeFormat::names().collect();
                    let help = format!("{}known are {}", did_you_mean(time, &known), known.join(", "));
                    section.error("time", format!("\"{time}\" is not a format for times"), help);
                }
            }
        }
        reject_unknown_keys(section, |_| None);
    }

    fn check_duplicate_names(&self, root: &Section<'_>) {
        for (at, path) in self.paths.iter().enumerate() {
            if self.paths[..at].iter().any(|earlier| earlier.name == path.name && !path.name.is_empty()) {
                let problem = format!("there are two paths \"{}\"", path.name);
                root.error(&format!("path[{at}].name"), problem, "give every path a name of its own");
            }
        }
    }

    fn path(&self, section: &Section<'_>, at: PathIndex, rules: &mut Vec<PlacedRule>) -> PathRule {
        let own = [at];
        let at = PathScope::Paths(&own);
        let help = "name it, so that rules can: name = \"prices\"";
        let name = section.required_text("name", help).unwrap_or_default();
        let template = section.required_text("path", "write it, such as path = \"/ws/{symbol}\"");
        let segments = segments(template.unwrap_or("/")).unwrap_or_else(|problem| {
            section.error("path", problem, "write \"/\" and segments, such as \"/ws/{symbol}\"");
            Vec::new()
        });
        let on_connect = self.on_connect(section, own[0], rules);
        let path = PathRule {
            name: name.into(),
            template: template.unwrap_or_default().into(),
            segments: segments.into(),
            parameters: Box::default(),
            token_query: token_query(section),
            token_field: token_field(section),
            require: self.requires(section, TemplatePlace::Message, at),
            label: self.text_template(section, "label", TemplatePlace::Session, at),
            greeting: self.json_template(section, "greeting", TemplatePlace::Session, at),
            on_connect: on_connect.into(),
            dispatch: Dispatch::default(),
            deliver_rules: Box::default(),
            has_auth: false,
        };
        reject_unknown_keys(section, not_yet_supported);
        path
    }

    /// The actions of a path when a client has connected. They become `rules`.
    pub(super) fn on_connect(
        &self,
        section: &Section<'_>,
        at: PathIndex,
        rules: &mut Vec<PlacedRule>,
    ) -> Vec<RuleId> {
        let (own, sections) = ([at], tables(section, "on_connect"));
        if sections.len() > MAX_ON_CONNECT as usize {
            section.error(
                "on_connect",
                format!("has more than {MAX_ON_CONNECT} actions"),
                "use `each` or `channels`",
            );
        }
        let context = RuleContext { place: TemplatePlace::Session, paths: PathScope::Paths(&own) };
        let ids = sections.iter().filter(|section| self.reads(section)).filter_map(|section| {
            let rule = self.rule(section, context)?;
            let channels = subscribed(&rule);
            rules.push(PlacedRule::new(rule, channels, section, &own, false));
            Some(RuleId(u16::try_from(rules.len() - 1).ok()?))
        });
        ids.collect()
    }

    pub(super) fn all_paths(&self) -> Vec<PathIndex> {
        (0..).map(PathIndex).take(self.paths.len()).collect()
    }

    /// The paths to which a rule belongs.
    fn paths_of(&self, section: &Section<'_>) -> Vec<PathIndex> {
        let Some(names) = texts(section, "path") else { return self.all_paths() };
        if names.is_empty() {
            section.error("path", "names no path", "name one at least, or leave it out for all");
        }
        let known: Vec<&str> = self.paths.iter().map(|path| &*path.name).collect();
        let found = names.into_iter().filter_map(|name| {
            let at = known.iter().position(|known| *known == name);
            if at.is_none() {
                let help =
                    format!("{}paths of this file are {}", did_you_mean(name, &known), known.join(", "));
                section.error("path", format!("there is no path \"{name}\""), help);
            }
            Some(PathIndex(u16::try_from(at?).ok()?))
        });
        found.collect()
    }

    pub(super) fn receive_rules(&self, root: &Section<'_>, rules: &mut Vec<PlacedRule>) {
        for section in &self.limited_tables(root, "receive") {
            let paths = self.paths_of(section);
            let rule = self.rule(
                section,
                RuleContext { place: TemplatePlace::Message, paths: PathScope::Paths(&paths) },
            );
            rules.extend(rule.map(|rule| {
                let channels = subscribed(&rule);
                PlacedRule::new(rule, channels, section, &paths, true)
            }));
        }
    }

    /// A list of tables, without the rules that this compiler does not read. Reports a list that is too long, and reads
    /// only its beginning.
    pub(super) fn limited_tables<'t>(&self, root: &Section<'t>, name: &'static str) -> Vec<Section<'t>> {
        let mut sections = tables(root, name);
        if sections.len() > MAX_TABLES as usize {
            let problem = format!("there are more than {MAX_TABLES} [[{name}]]");
            root.error(name, problem, "split the frontend into two endpoints");
            sections.truncate(MAX_TABLES as usize);
        }
        if name != "path" {
            sections.retain(|section| self.reads(section));
        }
        sections
    }

    pub(super) fn deliver_rules(&self, root: &Section<'_>) -> (Vec<PlacedDeliverRule>, Vec<TemplateSlot>) {
        let (mut deliver_rules, mut slots) = (Vec::new(), Vec::new());
        let mut collections = WrittenCollections::default();
        for section in self.limited_tables(root, "deliver") {
            let paths = self.paths_of(&section);
            let text = section.required_text("pattern", "say which publications: pattern = \"prices.*\"");
            let pattern = text.and_then(|text| {
                let parsed = Pattern::parse(text);
                if let Err(error) = &parsed {
                    section.error(
                        "pattern",
                        format!("is not a pattern: {error}"),
                        "write one such as \"prices.*\"",
                    );
                }
                parsed.ok()
            });
            let scope = PathScope::Paths(&paths);
            let when = self.conditions(&section, TemplatePlace::Deliver, scope);
            let number = u16::try_from(deliver_rules.len()).unwrap_or(u16::MAX);
            let mut each = self.each_rule(&section, scope, CollectionId(number));
            let place = if section.get("collect").is_some() {
                TemplatePlace::Collected
            } else {
                TemplatePlace::Deliver
            };
            let json_template = self.json_template(&section, "send", place, scope);
            section.required("send", "write the message: send = { data = \"{data}\" }");
            reject_unknown_keys(&section, |_| None);
            let (Some(pattern), Some(mut json_template)) = (pattern, json_template) else { continue };
            let reads_data = |placeholder: &&Placeholder| placeholder.source == Source::Data;
            let needs_text = each.is_some() || json_template.placeholders().iter().any(reads_data);
            let kept = kept_in(&json_template);
            let slots = match collections.share(&mut each, &json_template) {
                Some((shared, slots)) => {
                    json_template = shared;
                    slots
                }
                None => {
                    let (first, send) = (slots.len(), json_template.clone());
                    self.extract_slots(&section, "send", &mut json_template, &mut slots);
                    collections.add(each.as_ref(), send, &json_template, first..slots.len());
                    first..slots.len()
                }
            };
            let rule = DeliverRule { pattern, when, json_template, each, needs_text, slots };
            let location = section.location().clone();
            deliver_rules.push(PlacedDeliverRule { rule, location, paths, kept });
        }
        (deliver_rules, slots)
    }

    /// Replaces the placeholders of a template whose values differ by client with slots.
    pub(super) fn extract_slots(
        &self,
        section: &Section<'_>,
        name: &str,
        json_template: &mut JsonTemplate,
        slots: &mut Vec<TemplateSlot>,
    ) {
        if !json_template.extract_slots(slots) {
            let problem = "what differs between clients can only be a whole value or a part of a text";
            section.error(
                name,
                problem,
                "write it without `optional` and \"...\", at most 255 times in a file",
            );
        }
    }
}

/// The name of the vocabulary.
fn name_of<'d>(root: &Section<'d>) -> &'d str {
    let name = root.required_text("name", "name the vocabulary: name = \"stock-agent\"").unwrap_or_default();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty() && (name.len() > 64 || !name.chars().all(legal) || name == "native") {
        let help = "write at most 64 small letters, digits and \"-\"; \"native\" is taken";
        root.error("name", "is not a name for a vocabulary", help);
    }
    name
}

fn token_query(section: &Section<'_>) -> Option<Box<str>> {
    let text = section.text("token_query")?;
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || "{}&=?#".contains(c)) {
        let help = "write the name alone: token_query = \"token\" is for /ws?token=…";
        section.error("token_query", format!("\"{text}\" is no parameter of a query"), help);
    }
    Some(text.into())
}

fn token_field(section: &Section<'_>) -> Option<Box<[Step]>> {
    let text = section.text("token_field")?;
    let is_placeholder = text.contains(['{', '}']) || text.starts_with("msg.");
    if is_placeholder || text.split('.').any(|name| name.trim() != name || name.is_empty()) {
        let help = "write the member alone, \"token\", or the path to it, \"data.token\"";
        section.error("token_field", format!("\"{text}\" is no member of a message"), help);
    }
    Some(text.split('.').map(Step::read).collect())
}

/// The names of `{sub.…}` in a template.
fn kept_in(json_template: &JsonTemplate) -> Vec<Box<str>> {
    let placeholders = json_template.placeholders().into_iter();
    let kept = placeholders.filter_map(|placeholder| {
        if let Source::Subscription(name) = &placeholder.source { Some(name.clone()) } else { None }
    });
    let kept: BTreeSet<Box<str>> = kept.collect();
    kept.into_iter().collect()
}

pub(super) fn declared_path(section: &Section<'_>) -> DeclaredPath {
    let text = |key| section.get(key).and_then(Node::text).unwrap_or_default();
    let parameters =
        segments(text("path")).unwrap_or_default().into_iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name),
            Segment::Literal(_) => None,
        });
    let name = if text("name").is_empty() { text("path") } else { text("name") };
    DeclaredPath { name: name.into(), parameters: parameters.collect() }
}

/// Parses a path such as `/a/{b}`.
pub(super) fn segments(path: &str) -> Result<Vec<Segment>, String> {
    let Some(rest) = path.strip_prefix('/') else { return Err("does not start with \"/\"".to_owned()) };
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c);
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut segments: Vec<Segment> = Vec::new();
    for text in rest.split('/') {
        let parameter = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        segments.push(match parameter {
            Some(parameter) if !parameter.is_empty() && parameter.chars().all(name) => {
                if segments.contains(&Segment::Parameter(parameter.into())) {
                    return Err(format!("has {{{parameter}}} twice"));
                }
                Segment::Parameter(parameter.into())
            }
            None if text.chars().all(legal) && (!text.is_empty() || rest.is_empty()) => {
                Segment::Literal(text.into())
            }
            Some(_) | None => return Err(format!("\"{text}\" is no segment and no {{name}}")),
        });
    }
    Ok(segments)
}
