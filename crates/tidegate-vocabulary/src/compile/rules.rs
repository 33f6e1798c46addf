//! Compiles `[[receive]]` and `[[path.on_connect]]`.

use tidegate_document::node::Node;
use tidegate_document::node::Value;
use tidegate_document::section::Section;
use tidegate_protocol::class::MAX_RATE_MS;
use tidegate_protocol::json;
use tidegate_protocol::message::FieldIndex;
use tidegate_protocol::message::FilterChange;
use tidegate_protocol::message::JoinMode;
use tidegate_protocol::session::checks::CLIENT_HEADERS;

use crate::channel::Channel;
use crate::channel::is_from_client;
use crate::compile::Compiler;
use crate::compile::PathScope;
use crate::compile::actions::ActionTable;
use crate::compile::template_place::TemplatePlace;
use crate::file::reject_unknown_keys;
use crate::file::texts;
use crate::json_template::JsonTemplate;
use crate::language::rules::ON_CONNECT;
use crate::language::rules::RECEIVE_ACTIONS;
use crate::model::Each;
use crate::model::Field;
use crate::model::FilterTests;
use crate::model::Millis;
use crate::model::Rule;
use crate::model::RuleAction;
use crate::model::SubscribeSpec;
use crate::placeholder::Scope;
use crate::placeholder::Source;

const ACTIONS: ActionTable = ActionTable(RECEIVE_ACTIONS);
/// The longest timeout of a rule, in milliseconds.
const MAX_MILLIS: u64 = 3_600_000;

/// What the templates of a rule may read.
#[derive(Clone, Copy)]
pub(super) struct RuleContext<'s> {
    pub(super) place: TemplatePlace,
    /// The paths to which the rule belongs.
    pub(super) paths: PathScope<'s>,
}

impl Compiler<'_> {
    /// Compiles one rule. `None` if its action is unknown or lacks a required key.
    pub(super) fn rule(&self, section: &Section<'_>, context: RuleContext<'_>) -> Option<Rule> {
        let word = section.required_text("do", &format!("say what is to be done: {}", ACTIONS.list()));
        let when = if context.place == TemplatePlace::Message {
            self.tests(section, "when")
        } else {
            Box::default()
        };
        let require = self.requires(section, context.place, context.paths);
        let refuse = self.json_template(section, "refuse", TemplatePlace::Error, context.paths);
        let word = word?;
        if context.place == TemplatePlace::Session && !ON_CONNECT.contains(&word) {
            let problem = format!("\"{word}\" cannot be done before a client has said anything");
            section.error("do", problem, "on_connect takes subscribe, replace and filter");
            return None;
        }
        let action = self.rule_action(section, word, context);
        // Without a known action, it is unclear which keys are allowed.
        let keys = ACTIONS.keys(word)?;
        let set = if keys.contains(&"set") { self.set(section, context) } else { Box::default() };
        let answer = match word {
            "request" | "send" | "pong" => self.send(section, word, context),
            _ if keys.contains(&"confirm") => {
                let joins = matches!(word, "subscribe" | "replace") && section.get("each").is_some();
                let lists = joins && context.place == TemplatePlace::Message;
                let place = if lists { TemplatePlace::Joined } else { context.place };
                self.json_template(section, "confirm", place, context.paths)
            }
            _ => None,
        };
        reject_unknown_keys(section, |key| ACTIONS.misplaced_key(key, word));
        let keeps_message = [&answer, &refuse].into_iter().flatten().any(names_message)
            || matches!(&action, Some(RuleAction::Error { message, .. }) if names_message(message));
        let lists_joined = answer.as_ref().is_some_and(|answer| has_source(answer, &Source::Joined));
        let filter_name = section.get("field").and_then(Node::text).unwrap_or_default().into();
        Some(Rule {
            when,
            require,
            action: action?,
            answer,
            refuse,
            set,
            filter_name,
            keeps_message,
            lists_joined,
        })
    }

    fn set(&self, section: &Section<'_>, context: RuleContext<'_>) -> Box<[(Box<str>, JsonTemplate)]> {
        let set = self.json_templates(section, "set", context.place, context.paths);
        self.set.borrow_mut().extend(set.iter().map(|(name, _)| name.clone()));
        let is_foreign = |template: &JsonTemplate| {
            template.placeholders().iter().any(|placeholder| !is_from_client(&placeholder.source))
        };
        let foreign = set.iter().filter(|(_, template)| is_foreign(template));
        self.foreign.borrow_mut().extend(foreign.map(|(name, _)| name.clone()));
        set
    }

    /// The `send` of a rule.
    fn send(&self, section: &Section<'_>, word: &str, context: RuleContext<'_>) -> Option<JsonTemplate> {
        let place = if word == "request" { TemplatePlace::Reply } else { context.place };
        let json_template = self.json_template(section, "send", place, context.paths);
        if word != "pong" && section.get("send").is_none() {
            let help = format!("a rule with do = \"{word}\" needs the message that it sends: send = {{ … }}");
            section.error("send", "is missing", help);
        }
        json_template
    }

    fn rule_action(&self, section: &Section<'_>, word: &str, context: RuleContext<'_>) -> Option<RuleAction> {
        let RuleContext { place, paths } = context;
        match word {
            "subscribe" => self.subscribe(section, JoinMode::Add, context),
            "replace" => self.subscribe(section, JoinMode::Replace, context),
            "unsubscribe" => {
                let each = self.each(section, context);
                let group = self.text_template(section, "group", place, paths);
                Some(RuleAction::Unsubscribe {
                    each,
                    channels: self.channels(section, context, false)?,
                    group,
                })
            }
            "filter" => self.filter(section, context),
            "publish" | "request" => self.publish_or_request(section, word, context),
            "auth" => {
                section.required("token", "name the member: token = \"{msg.token}\"");
                self.placeholder(section, "token", place, paths).map(RuleAction::Auth)
            }
            "send" => Some(RuleAction::Send),
            "pong" => Some(RuleAction::Pong),
            "ignore" => Some(RuleAction::Ignore),
            "error" => {
                let code = self.error_code(section, "code");
                section.required_text(
                    "message",
                    "say what is wrong: message = \"Unknown channel: {msg.channel}\"",
                );
                Some(RuleAction::Error {
                    code: code?,
                    message: self.text_template(section, "message", place, paths)?,
                })
            }
            "close" => {
                let code = section.get("code").map_or(Some(1000), |_| self.close_code(section, "code", true));
                let reason = section.text("reason").unwrap_or_default();
                if reason.len() > 123 {
                    section.error(
                        "reason",
                        "is longer than 123 bytes",
                        "write at most 123 bytes: a close frame has no room for more",
                    );
                }
                Some(RuleAction::Close { code: code?, reason: reason.into() })
            }
            _ => {
                ACTIONS.reject_unknown(section, word);
                None
            }
        }
    }

    fn subscribe(
        &self,
        section: &Section<'_>,
        joining: JoinMode,
        context: RuleContext<'_>,
    ) -> Option<RuleAction> {
        let RuleContext { place, paths } = context;
        let group = self.text_template(section, "group", place, paths);
        let is_unique = joining == JoinMode::Add && section.boolean("unique").unwrap_or(false);
        let joining = if is_unique { JoinMode::Unique } else { joining };
        if joining == JoinMode::Replace && section.get("group").is_none() {
            section.error("group", "replace without group would leave everything", "name a group");
        }
        let keep = self.json_templates(section, "keep", place, paths);
        self.kept.borrow_mut().extend(keep.iter().map(|(name, _)| name.clone()));
        let max_rate = self.millis(section, "max_rate_ms", u64::from(MAX_RATE_MS), context);
        let (each, channels) = (self.each(section, context), self.channels(section, context, true)?);
        Some(RuleAction::Subscribe(SubscribeSpec { each, channels, group, joining, keep, max_rate }))
    }

    pub(super) fn channels(
        &self,
        section: &Section<'_>,
        context: RuleContext<'_>,
        required: bool,
    ) -> Option<Box<[Channel]>> {
        let names = match (section.get("channel").is_some(), section.get("channels").is_some()) {
            (true, true) => {
                section.error("channels", "channel and channels exclude each other", "keep one of them");
                return None;
            }
            (false, true) => "channels",
            (true, false) => "channel",
            (false, false) if required => {
                let help = "name a subject, such as channel = \"prices.{msg.symbol}\"";
                section.error("channel", "is missing", help);
                return None;
            }
            (false, false) => {
                if section.get("each").is_some() {
                    let help = "name a channel with {item} in it, or remove it to leave all of the group";
                    section.error("each", "has no meaning without channel", help);
                }
                return Some(Box::default());
            }
        };
        let texts = texts(section, names)?;
        if texts.is_empty() {
            section.error(names, "names no channel", "name one at least");
            return None;
        }
        texts
            .into_iter()
            .map(|text| self.channel(section, names, text, context.place, context.paths))
            .collect()
    }

    pub(super) fn each(&self, section: &Section<'_>, context: RuleContext<'_>) -> Option<Each> {
        let Some(items) = section.get("each")?.list() else {
            return self.placeholder(section, "each", context.place, context.paths).map(Each::Placeholder);
        };
        let item = |item: &Node| match &item.value {
            Value::Text(text) => Some(json::string(text).into()),
            Value::Whole(number) => Some(number.to_string().into()),
            Value::Float(_) | Value::Boolean(_) | Value::Time(_) | Value::List(_) | Value::Table(_) => None,
        };
        let items: Option<Box<[Box<str>]>> = items.iter().map(item).collect();
        if items.as_ref().is_none_or(|items| items.is_empty()) {
            let help = "name one element at least, or a placeholder: each = \"{msg.list}\"";
            section.error("each", "is not a list of texts and whole numbers", help);
        }
        items.map(Each::List)
    }

    fn filter(&self, section: &Section<'_>, context: RuleContext<'_>) -> Option<RuleAction> {
        let text = section.required_text("channel", "name the channel whose publications are chosen");
        let channel =
            text.and_then(|text| self.channel(section, "channel", text, context.place, context.paths));
        let help = "name the field that is looked at, such as field = \"data.type\"";
        let name = section.required_text("field", help);
        let placeholder = name.and_then(|name| {
            self.bare_placeholder(section, "field", name, TemplatePlace::Deliver, context.paths)
        });
        if placeholder.as_ref().is_some_and(|placeholder| placeholder.source.scope() != Scope::Publication) {
            section.error("field", "is not a part of a publication", help);
        }
        let test = |key| self.placeholder(section, key, context.place, context.paths);
        let tests = FilterTests { values: test("in"), not: test("not"), min: test("min"), max: test("max") };
        if ["in", "not", "min", "max"].iter().all(|key| section.get(key).is_none()) {
            let help = "name what the field must be: in = \"{msg.types}\", not, min or max";
            section.error("in", "is missing", help);
        }
        let changes = [("add", FilterChange::Add), ("remove", FilterChange::Remove)];
        let change = section.choice("change", &changes).unwrap_or_default();
        if change != FilterChange::Replace && (tests.min.is_some() || tests.max.is_some()) {
            section.error("change", "is for lists of values", "take out min and max, or write no change");
        }
        let (channel, name) = (channel?, name?);
        let mut fields = self.fields.borrow_mut();
        fields.push((name.into(), Field { pattern: channel.reach(), placeholder: placeholder? }));
        let field = FieldIndex(u16::try_from(fields.len() - 1).ok()?);
        Some(RuleAction::Filter { channel, field, tests: Box::new(tests), change })
    }

    pub(super) fn publish_or_request(
        &self,
        section: &Section<'_>,
        word: &str,
        context: RuleContext<'_>,
    ) -> Option<RuleAction> {
        let RuleContext { place, paths } = context;
        let help = format!("a rule with do = \"{word}\" needs subject and data");
        let subject = section.required_text("subject", &help);
        let subject = subject.and_then(|text| self.channel(section, "subject", text, place, paths));
        section.required("data", &help);
        let data = self.json_template(section, "data", place, paths);
        let timeout =
            (word == "request").then(|| self.millis(section, "timeout_ms", MAX_MILLIS, context)).flatten();
        let headers = self.headers(section, context);
        let (subject, data) = (subject?, data?);
        if subject.is_wild() {
            section.error("subject", "has a wildcard, and a message goes to one subject", "name the tokens");
        }
        Some(match word {
            "publish" => RuleAction::Publish { subject, data, headers },
            _ => RuleAction::Request { subject, data, headers, timeout },
        })
    }

    fn headers(&self, section: &Section<'_>, context: RuleContext<'_>) -> Box<[(Box<str>, JsonTemplate)]> {
        let headers = self.json_templates(section, "headers", context.place, context.paths);
        for (at, (name, _)) in headers.iter().enumerate() {
            if headers[..at].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                section.error("headers", format!("\"{name}\" occurs twice"), "keep one: case does not count");
            }
            if !CLIENT_HEADERS.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
                let help = format!("allowed are {}", CLIENT_HEADERS.join(", "));
                section.error("headers", format!("\"{name}\" is not a header that clients may set"), help);
            }
        }
        headers
    }

    fn millis(
        &self,
        section: &Section<'_>,
        name: &'static str,
        most: u64,
        context: RuleContext<'_>,
    ) -> Option<Millis> {
        if section.get(name)?.text().is_some() {
            return self.placeholder(section, name, context.place, context.paths).map(Millis::Placeholder);
        }
        section.duration(name, 0..=most, None).map(Millis::Fixed)
    }
}

/// Whether a template reads the client's message, so that the message must be kept.
pub(super) fn names_message(json_template: &JsonTemplate) -> bool {
    // The elements of `each` are in the message.
    has_source(json_template, &Source::Message) || has_source(json_template, &Source::Joined)
}

fn has_source(json_template: &JsonTemplate, source: &Source) -> bool {
    json_template.placeholders().iter().any(|placeholder| placeholder.source == *source)
}
