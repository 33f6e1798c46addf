//! The sections of a vocabulary's file, in the order in which they are read.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::node::Node;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::json::paths::JsonPaths;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::subject::Pattern;

use crate::compile::Compiler;
use crate::compile::KnownPath;
use crate::compile::PathScope;
use crate::compile::check;
use crate::compile::check::channels::subscribed;
use crate::compile::check::parts::Parts;
use crate::compile::check::parts::PlacedRule;
use crate::compile::check::parts::PlacedShow;
use crate::compile::dispatch::dispatch;
use crate::compile::place::TemplatePlace;
use crate::compile::rules::Spot;
use crate::compile::rules::names_message;
use crate::compile::words::later;
use crate::compile::words::no_section;
use crate::json_template::JsonTemplate;
use crate::json_template::TemplateSlot;
use crate::language::rules::MAX_ON_CONNECT;
use crate::language::rules::MAX_TABLES;
use crate::model::Act;
use crate::model::Beats;
use crate::model::Codes;
use crate::model::CompiledVocabulary;
use crate::model::Condition;
use crate::model::DeliverIndex;
use crate::model::DeliverRule;
use crate::model::Dispatch;
use crate::model::PathIndex;
use crate::model::PathRule;
use crate::model::Segment;
use crate::model::ServerMessages;
use crate::model::Unknown;
use crate::placeholder::Scope;
use crate::placeholder::Source;
use crate::placeholder::TimeFormat;
use crate::source::end;
use crate::source::tables;
use crate::source::texts;

/// Codes that an application may send (RFC 6455 §7.4.2).
const OWN_CODES: std::ops::RangeInclusive<i128> = 3000..=4999;

impl Compiler<'_> {
    /// The whole file.
    pub(super) fn file(mut self, root: &Section<'_>) -> CompiledVocabulary {
        let name =
            root.required_text("name", "name the vocabulary: name = \"stock-agent\"").unwrap_or_default();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.is_empty() && (name.len() > 64 || !name.chars().all(legal) || name == "native") {
            let help = "write at most 64 small letters, digits and \"-\"; \"native\" is taken";
            root.mistake("name", "is not a name for a vocabulary", help);
        }
        let mut described = CompiledVocabulary {
            name: name.into(),
            description: root.text("description").unwrap_or_default().into(),
            ..CompiledVocabulary::default()
        };
        if let Some(section) = root.table("protocol") {
            self.protocol(&section, &mut described);
        }
        let mut subprotocols = std::mem::take(&mut described.subprotocols).into_vec();
        subprotocols.push(name.into());
        described.subprotocols = subprotocols.into();
        let sections = self.limited(root, "path");
        self.paths = sections.iter().map(known_path).collect();
        self.calls = self.limited(root, "http").iter().map(known_path).collect();
        self.check_twins(root);
        let mut rules = Vec::new();
        let paths: Vec<PathRule> = sections
            .iter()
            .zip((0..).map(PathIndex))
            .map(|(section, at)| self.path(section, at, &mut rules))
            .collect();
        self.received(root, &mut rules);
        let (shows, mut cuts) = self.shows(root);
        let greeting = self.said(root, "greeting", TemplatePlace::Session);
        described.words = self.words(root, &mut cuts);
        described.codes = self.codes(root, &mut described.words);
        described.closes = self.closes(root, &mut described.words);
        described.heartbeat = self.heartbeat(root);
        described.unknown = self.unknown(root);
        let paths = paths.into_iter().zip((0..).map(PathIndex)).map(|(path, at)| {
            let greeting = path.greeting.clone().or_else(|| greeting.clone());
            self.with_rules(PathRule { greeting, ..path }, at, &rules, &shows)
        });
        described.paths = paths.collect();
        if described.paths.is_empty() {
            root.mistake("path", "is missing", "say where clients come in: [[path]] with name and path");
        }
        described.errors_name_message = described.words.error.as_ref().is_some_and(names_message);
        described.calls = self.calls(root);
        described.counted = self.counted.take().into_iter().collect();
        end(root, no_section);
        let pong = described.heartbeat.pong.as_deref();
        let (paths, calls) = (&described.paths, &described.calls);
        self.check(&Parts { paths, rules: &rules, shows: &shows, calls, pong });
        described.rules = rules.into_iter().map(|placed| placed.rule).collect();
        described.shows = shows.into_iter().map(|placed| placed.show).collect();
        described.cuts = cuts.into();
        described.fields = self.fields.take().into_iter().map(|(_, field)| field).collect();
        described.queries = self.queries.take().into_iter().collect();
        described.headers = self.headers.take().into_iter().collect();
        described.claims = self.claims.take().into_iter().collect();
        described.data = described.payload_paths();
        described.messages = JsonPaths::new(self.messages.take().iter().map(Vec::as_slice));
        described
    }

    /// A path with the rules that hold there.
    fn with_rules(
        &self,
        path: PathRule,
        at: PathIndex,
        rules: &[PlacedRule],
        shows: &[PlacedShow],
    ) -> PathRule {
        let is_mine = |placed: &PlacedRule| placed.is_received && placed.paths.contains(&at);
        let mine: Vec<RuleId> = rules
            .iter()
            .zip((0..).map(RuleId))
            .filter(|(placed, _)| is_mine(placed))
            .map(|(_, rule)| rule)
            .collect();
        let shows =
            shows.iter().zip((0..).map(DeliverIndex)).filter(|(placed, _)| placed.paths.contains(&at));
        let tokens = self.tokens.borrow();
        PathRule {
            has_auth: mine.iter().any(|rule| matches!(rules[usize::from(rule.0)].rule.act, Act::Auth(_))),
            dispatch: dispatch(rules, &mine),
            shows: shows.map(|(_, show)| show).collect(),
            tokens: self.paths.get(usize::from(at.0)).map_or_else(Box::default, |known| {
                known.parameters.iter().filter(|name| tokens.contains(*name)).cloned().collect()
            }),
            ..path
        }
    }

    /// Notes what the parts say of each other, and what is allowed and probably not meant.
    fn check(&self, parts: &Parts<'_>) {
        let add = |found: Vec<Diagnostic>| found.into_iter().for_each(|one| self.diagnostics.at_key(one));
        if !self.diagnostics.refuses_in(&["http"]) {
            add(check::of_calls(parts));
        }
        add(check::of_paths(parts));
        if self.diagnostics.refuses_in(&["path", "receive", "deliver"]) {
            return;
        }
        add(check::of_rules(parts));
        self.check_owed();
        add(check::warnings(parts));
    }

    fn protocol(&mut self, section: &Section<'_>, described: &mut CompiledVocabulary) {
        described.subprotocols =
            texts(section, "subprotocols").unwrap_or_default().into_iter().map(Into::into).collect();
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if described.subprotocols.iter().any(|name| name.is_empty() || !name.chars().all(token)) {
            section.mistake(
                "subprotocols",
                "has one that no handshake can offer",
                "write tokens, as in RFC 6455",
            );
        }
        described.is_subprotocol_required = section.boolean("required").unwrap_or(false);
        if let Some(encoding) = section.text("encoding")
            && encoding != "json"
        {
            section.mistake("encoding", "this version writes JSON", "remove it, or write \"json\"");
        }
        if let Some(time) = section.text("time") {
            match TimeFormat::by_name(time) {
                Some(time) => self.time = time,
                None => {
                    let known: Vec<&str> = TimeFormat::names().collect();
                    let help = format!("{}known are {}", did_you_mean(time, &known), known.join(", "));
                    section.mistake("time", format!("\"{time}\" is no way to write times"), help);
                }
            }
        }
        end(section, |_| None);
    }

    fn check_twins(&self, root: &Section<'_>) {
        for (at, path) in self.paths.iter().enumerate() {
            if self.paths[..at].iter().any(|earlier| earlier.name == path.name && !path.name.is_empty()) {
                let problem = format!("there are two paths \"{}\"", path.name);
                root.mistake(&format!("path[{at}].name"), problem, "give every path a name of its own");
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
            section.mistake("path", problem, "write \"/\" and segments, such as \"/ws/{symbol}\"");
            Vec::new()
        });
        let on_connect: Vec<RuleId> = tables(section, "on_connect")
            .iter()
            .filter_map(|section| {
                let rule = self.rule(section, Spot { place: TemplatePlace::Session, paths: at })?;
                let channels = subscribed(&rule);
                rules.push(PlacedRule::new(rule, channels, section, &own, false));
                Some(RuleId(u16::try_from(rules.len() - 1).ok()?))
            })
            .collect();
        if on_connect.len() > MAX_ON_CONNECT as usize {
            section.mistake(
                "on_connect",
                format!("has more than {MAX_ON_CONNECT} actions"),
                "use `each` or `channels`",
            );
        }
        let path = PathRule {
            name: name.into(),
            template: template.unwrap_or_default().into(),
            segments: segments.into(),
            tokens: Box::default(),
            token_query: token_query(section),
            token_field: token_field(section),
            require: self.requires(section, TemplatePlace::Message, at),
            label: self.text_shape(section, "label", TemplatePlace::Session, at),
            greeting: self.json_template(section, "greeting", TemplatePlace::Session, at),
            on_connect: on_connect.into(),
            dispatch: Dispatch::default(),
            shows: Box::default(),
            has_auth: false,
        };
        end(section, later);
        path
    }

    fn all_paths(&self) -> Vec<PathIndex> {
        (0..).map(PathIndex).take(self.paths.len()).collect()
    }

    /// The paths that a rule is for.
    fn paths_of(&self, section: &Section<'_>) -> Vec<PathIndex> {
        let Some(names) = texts(section, "path") else { return self.all_paths() };
        if names.is_empty() {
            section.mistake("path", "names no path", "name one at least, or leave it out for all");
        }
        let known: Vec<&str> = self.paths.iter().map(|path| &*path.name).collect();
        let found = names.into_iter().filter_map(|name| {
            let at = known.iter().position(|known| *known == name);
            if at.is_none() {
                let help =
                    format!("{}paths of this file are {}", did_you_mean(name, &known), known.join(", "));
                section.mistake("path", format!("there is no path \"{name}\""), help);
            }
            Some(PathIndex(u16::try_from(at?).ok()?))
        });
        found.collect()
    }

    fn received(&self, root: &Section<'_>, rules: &mut Vec<PlacedRule>) {
        for section in &self.limited(root, "receive") {
            let paths = self.paths_of(section);
            let rule =
                self.rule(section, Spot { place: TemplatePlace::Message, paths: PathScope::Paths(&paths) });
            rules.extend(rule.map(|rule| {
                let channels = subscribed(&rule);
                PlacedRule::new(rule, channels, section, &paths, true)
            }));
        }
    }

    /// A list of tables, which must not be too long; what is too much is not read.
    pub(super) fn limited<'t>(&self, root: &Section<'t>, name: &'static str) -> Vec<Section<'t>> {
        let mut sections = tables(root, name);
        if sections.len() > MAX_TABLES as usize {
            let problem = format!("there are more than {MAX_TABLES} [[{name}]]");
            root.mistake(name, problem, "split the frontend into two endpoints");
            sections.truncate(MAX_TABLES as usize);
        }
        sections
    }

    fn shows(&self, root: &Section<'_>) -> (Vec<PlacedShow>, Vec<TemplateSlot>) {
        let (mut shows, mut cuts) = (Vec::new(), Vec::new());
        for section in self.limited(root, "deliver") {
            let paths = self.paths_of(&section);
            let text = section.required_text("pattern", "say which publications: pattern = \"prices.*\"");
            let pattern = text.and_then(|text| {
                let parsed = Pattern::parse(text);
                if let Err(error) = &parsed {
                    section.mistake(
                        "pattern",
                        format!("is no pattern: {error}"),
                        "write one such as \"prices.*\"",
                    );
                }
                parsed.ok()
            });
            let when = self.conditions(&section, PathScope::Paths(&paths));
            let json_template =
                self.json_template(&section, "send", TemplatePlace::Deliver, PathScope::Paths(&paths));
            section.required("send", "write the message: send = { data = \"{data}\" }");
            end(&section, |_| None);
            if let (Some(pattern), Some(mut json_template)) = (pattern, json_template) {
                let needs_text =
                    json_template.placeholders().iter().any(|placeholder| placeholder.source == Source::Data);
                let (first, kept) = (cuts.len(), kept_in(&json_template));
                self.cut(&section, "send", &mut json_template, &mut cuts);
                let show = DeliverRule { pattern, when, json_template, needs_text, cuts: first..cuts.len() };
                shows.push(PlacedShow { show, location: section.location().clone(), paths, kept });
            }
        }
        (shows, cuts)
    }

    /// Takes what differs between clients out of a message that all are sent.
    fn cut(
        &self,
        section: &Section<'_>,
        name: &str,
        json_template: &mut JsonTemplate,
        cuts: &mut Vec<TemplateSlot>,
    ) {
        if !json_template.cut(cuts) {
            let problem = "what differs between clients can only be a whole value or a part of a text";
            section.mistake(
                name,
                problem,
                "write it without `optional` and \"...\", at most 255 times in a file",
            );
        }
    }

    /// `when` of a publication: fields of `data` and `nats`.
    fn conditions(&self, section: &Section<'_>, paths: PathScope<'_>) -> Box<[Condition]> {
        let mut conditions = Vec::new();
        for (name, value) in section.table("when").iter().flat_map(Section::entries) {
            self.condition(section, name, value, paths, &mut conditions);
        }
        conditions.into()
    }

    fn condition(
        &self,
        section: &Section<'_>,
        name: &str,
        value: &Node,
        paths: PathScope<'_>,
        out: &mut Vec<Condition>,
    ) {
        if let Some(inner) = value.table() {
            for (key, value) in inner.iter() {
                self.condition(section, &format!("{name}.{key}"), value, paths, out);
            }
            return;
        }
        let placeholder = self.bare_placeholder(section, "when", name, TemplatePlace::Deliver, paths);
        let is = self.is(section, "when", value);
        if let (Some(placeholder), Some(is)) = (placeholder, is) {
            if out.iter().any(|condition| condition.placeholder.name == placeholder.name) {
                let problem = format!("when asks for \"{name}\" in two ways");
                section.mistake("when", problem, "keep one of them");
            }
            if placeholder.source.scope() != Scope::Publication {
                section.mistake(
                    "when",
                    format!("{name} is no part of a publication"),
                    "look at data.x or nats.X",
                );
            }
            out.push(Condition { placeholder, is });
        }
    }

    fn said(&self, root: &Section<'_>, name: &'static str, place: TemplatePlace) -> Option<JsonTemplate> {
        let section = root.table(name)?;
        let all = self.all_paths();
        let json_template = self.json_template(&section, "send", place, PathScope::Paths(&all));
        section.required("send", &format!("write the message, or leave [{name}] out for silence"));
        end(&section, |_| None);
        json_template
    }

    fn words(&self, root: &Section<'_>, cuts: &mut Vec<TemplateSlot>) -> ServerMessages {
        let mut of_channel = |name| {
            let mut json_template = self.said(root, name, TemplatePlace::OfChannel)?;
            self.cut(root, &format!("{name}.send"), &mut json_template, cuts);
            Some(json_template)
        };
        let (gap, stale, unsubscribed) = (of_channel("gap"), of_channel("stale"), of_channel("unsubscribed"));
        let expiring = self.said(root, "expiring", TemplatePlace::Ending);
        ServerMessages { error: None, gap, stale, unsubscribed, expiring, close: None }
    }

    fn codes(&self, root: &Section<'_>, words: &mut ServerMessages) -> Codes {
        let mut codes = Codes::default();
        let Some(section) = root.table("error") else { return codes };
        let all = self.all_paths();
        words.error = self.json_template(&section, "send", TemplatePlace::Refusal, PathScope::Paths(&all));
        if let Some(table) = section.table("codes") {
            let mut names = Vec::new();
            for (name, value) in table.entries() {
                let text = value.text().map(json::string);
                let Some(shown) = text.or_else(|| Some(value.whole()?.to_string())) else {
                    table.mistake(name, "is no text and no whole number", "write what stands for {code}");
                    continue;
                };
                if name == "default" {
                    codes.default = Some(shown.into());
                } else if let Some(code) = self.code_named(&table, name, name) {
                    names.push((code, shown.into()));
                }
            }
            codes.names = names.into();
        }
        if let Some(table) = section.table("close") {
            let closing = table.entries().filter_map(|(name, value)| {
                Some((self.code_named(&table, name, name)?, close_code(&table, name, value, false)?))
            });
            codes.closing = closing.collect();
        }
        end(&section, |_| None);
        codes
    }

    fn closes(&self, root: &Section<'_>, words: &mut ServerMessages) -> Box<[(Disconnect, u16)]> {
        let Some(section) = root.table("close") else { return Box::default() };
        let all = self.all_paths();
        words.close = self.json_template(&section, "send", TemplatePlace::Ending, PathScope::Paths(&all));
        let known: Vec<&str> = Disconnect::ALL.iter().map(|end| end.name()).collect();
        let ends = section.entries().filter(|(name, _)| *name != "send").filter_map(|(name, value)| {
            let Some(end) = Disconnect::ALL.into_iter().find(|end| end.name() == name) else {
                let help = format!("{}known are {}", did_you_mean(name, &known), known.join(", "));
                section.mistake(name, "is no end of a session", help);
                return None;
            };
            Some((end, close_code(&section, name, value, false)?))
        });
        ends.collect()
    }

    fn heartbeat(&self, root: &Section<'_>) -> Beats {
        let Some(section) = root.table("heartbeat") else { return Beats::default() };
        let all = self.all_paths();
        let by = section.text("by").unwrap_or("client");
        let ping = self.json_template(&section, "ping", TemplatePlace::Session, PathScope::Paths(&all));
        match (by, section.get("ping").is_some()) {
            ("client", true) => {
                section.mistake(
                    "ping",
                    "is never sent: by = \"client\"",
                    "write by = \"server\", or remove it",
                );
            }
            ("server" | "both", false) => {
                section.mistake("ping", "is missing", format!("by = \"{by}\" needs the message that pings"));
            }
            ("client" | "server" | "both", _) => {}
            _ => section.mistake("by", format!("\"{by}\" pings nobody"), "write client, server or both"),
        }
        let pong = section.get("pong").is_some().then(|| self.tests(&section, "pong"));
        let every = section.text("every").and_then(|text| {
            let seconds =
                text.strip_suffix('s').and_then(|text| text.parse().ok()).filter(|s| (1..=3600).contains(s));
            if seconds.is_none() {
                section.mistake(
                    "every",
                    format!("\"{text}\" is no time between pings"),
                    "write \"30s\", at most 3600s",
                );
            }
            seconds.map(Duration::from_secs)
        });
        end(&section, |_| None);
        Beats { ping, every, pong }
    }

    fn unknown(&self, root: &Section<'_>) -> Unknown {
        let Some(section) = root.table("unknown") else { return Unknown::Plain };
        let all = self.all_paths();
        let act = section.text("do");
        let code =
            section.get("code").map_or(Some(ErrorCode::UnknownType), |_| self.error_code(&section, "code"));
        let message = self.text_shape(&section, "message", TemplatePlace::Message, PathScope::Paths(&all));
        end(&section, |_| None);
        match act {
            None => Unknown::Error { code: code.unwrap_or(ErrorCode::UnknownType), message },
            Some("ignore") => Unknown::Ignore,
            Some(_) => {
                section.mistake(
                    "do",
                    "is not \"ignore\"",
                    "what no rule takes is ignored, or an error: remove it",
                );
                Unknown::Plain
            }
        }
    }

    /// The error that a key names; `bad_request` if it is not there.
    pub(super) fn error_code(&self, section: &Section<'_>, key: &'static str) -> Option<ErrorCode> {
        match section.get(key) {
            None => Some(ErrorCode::BadRequest),
            Some(_) => self.code_named(section, key, section.text(key)?),
        }
    }

    fn code_named(&self, section: &Section<'_>, key: &str, name: &str) -> Option<ErrorCode> {
        let code = ErrorCode::ALL.into_iter().find(|code| code.name() == name);
        if code.is_none() {
            let known: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
            let help = format!("{}known are {}", did_you_mean(name, &known), known.join(", "));
            section.mistake(key, format!("there is no error \"{name}\""), help);
        }
        code
    }

    /// The close code that a key names.
    pub(super) fn close_code(&self, section: &Section<'_>, key: &'static str, normal: bool) -> Option<u16> {
        close_code(section, key, section.get(key)?, normal)
    }
}

/// The parameter that may hold a credential.
fn token_query(section: &Section<'_>) -> Option<Box<str>> {
    let text = section.text("token_query")?;
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || "{}&=?#".contains(c)) {
        let help = "write the name alone: token_query = \"token\" is for /ws?token=…";
        section.mistake("token_query", format!("\"{text}\" is no parameter of a query"), help);
    }
    Some(text.into())
}

/// The member that may, as a path into the message.
fn token_field(section: &Section<'_>) -> Option<Box<[Step]>> {
    let text = section.text("token_field")?;
    let is_hole = text.contains(['{', '}']) || text.starts_with("msg.");
    if is_hole || text.split('.').any(|name| name.trim() != name || name.is_empty()) {
        let help = "write the member alone, \"token\", or the path to it, \"data.token\"";
        section.mistake("token_field", format!("\"{text}\" is no member of a message"), help);
    }
    Some(text.split('.').map(Step::read).collect())
}

/// The names that a template takes from a subscription.
fn kept_in(json_template: &JsonTemplate) -> Vec<Box<str>> {
    let placeholders = json_template.placeholders().into_iter();
    let kept = placeholders.filter_map(|placeholder| {
        if let Source::Kept(name) = &placeholder.source { Some(name.clone()) } else { None }
    });
    let kept: BTreeSet<Box<str>> = kept.collect();
    kept.into_iter().collect()
}

fn close_code(section: &Section<'_>, key: &str, value: &Node, normal: bool) -> Option<u16> {
    let code = value.whole().filter(|code| OWN_CODES.contains(code) || (normal && *code == 1000));
    if code.is_none() {
        section.mistake(key, "is not a code that an application may send", "write one from 3000 to 4999");
    }
    code.and_then(|code| u16::try_from(code).ok())
}

fn known_path(section: &Section<'_>) -> KnownPath {
    let text = |key| section.get(key).and_then(Node::text).unwrap_or_default();
    let parameters =
        segments(text("path")).unwrap_or_default().into_iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name),
            Segment::Literal(_) => None,
        });
    let name = if text("name").is_empty() { text("path") } else { text("name") };
    KnownPath { name: name.into(), parameters: parameters.collect() }
}

/// The segments of a path, `/a/{b}`.
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
