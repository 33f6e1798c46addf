//! Checks of channels: their first token, the rules that render their publications, and the values that `keep` stores
//! for them.

use std::collections::BTreeSet;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::message::JoinMode;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::subject::Pattern;

use crate::channel::Channel;
use crate::channel::subject_part;
use crate::compile::check::parts::Parts;
use crate::compile::check::parts::PlacedRule;
use crate::dotted::subjects_of;
use crate::json_template::JsonTemplate;
use crate::model::Each;
use crate::model::HttpAction;
use crate::model::Literal;
use crate::model::Matcher;
use crate::model::MessageTest;
use crate::model::Rule;
use crate::model::RuleAction;
use crate::model::SubscribeSpec;
use crate::placeholder::Placeholder;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::SourceValue;
use crate::placeholder::Value;
use crate::route::PathIndex;

/// The most channels that are checked one by one. Beyond that, a placeholder counts as any token.
const MAX_REACHES: usize = 1024;

/// Patterns that cover the channels to which a rule can subscribe.
pub(in crate::compile) fn subscribed(rule: &Rule) -> Vec<Pattern> {
    let channels = subscribe_spec(rule).map_or(&[][..], |spec| &spec.channels);
    let mut all: Vec<Pattern> =
        channels.iter().flat_map(|channel| reaches(ChannelLists::of(rule), channel)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Reports channels and subjects without a fixed first token, or with a reserved one. `unsubscribe` is not checked: to
/// leave a channel that is not held does nothing.
pub(super) fn channels_without_prefix(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        for channel in used(&placed.rule.action) {
            let reaches = reaches(ChannelLists::of(&placed.rule), channel);
            mistakes.extend(wrong_firsts(&placed.location.of(placed.names), channel, &reaches));
        }
    }
    mistakes
}

/// The same for HTTP routes.
pub(super) fn http_channels_without_prefix(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.http_routes {
        let (name, channels, each) = match &placed.route.action {
            HttpAction::Rule(act) => ("subject", used(act), None),
            HttpAction::Last { each, channels } => {
                let name = if channels.len() == 1 { "channel" } else { "channels" };
                (name, channels.iter().collect(), each.as_ref())
            }
            HttpAction::Stats | HttpAction::Receive | HttpAction::Health | HttpAction::Console => continue,
        };
        for channel in channels {
            let reaches = reaches(ChannelLists { when: &[], each }, channel);
            mistakes.extend(wrong_firsts(&placed.location.of(name), channel, &reaches));
        }
    }
    mistakes
}

fn wrong_firsts(key: &str, channel: &Channel, reaches: &[Pattern]) -> Vec<Diagnostic> {
    let firsts: BTreeSet<Box<str>> = reaches.iter().map(first).collect();
    let wrong = firsts.iter().filter_map(|token| wrong_first(token, channel));
    wrong.map(|(problem, help)| Diagnostic::error(key, problem, help)).collect()
}

fn wrong_first(token: &str, channel: &Channel) -> Option<(String, String)> {
    if !is_free(token) {
        let problem = format!("\"{token}\" is reserved for NATS and Tidegate");
        return system_root(token).map(|_| (problem, "choose another first token".to_owned()));
    }
    let (written, placeholder) = channel.first();
    let field = placeholder.and_then(|placeholder| placeholder.name.strip_prefix("msg."));
    let list = field.map(|field| format!(", or list what is allowed: when = {{ {field} = [\"a\", \"b\"] }}"));
    Some((
        format!("the first token is {written}, which may be anything"),
        format!("begin with a name, as in \"room.{written}\"{}", list.unwrap_or_default()),
    ))
}

fn is_free(token: &str) -> bool {
    matches!(token, "*" | ">")
}

fn first(pattern: &Pattern) -> Box<str> {
    pattern.tokens().next().unwrap_or_default().into()
}

/// Reports channels whose publications no `[[deliver]]` renders.
pub(super) fn channels_without_deliver_rule(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let name = placed.location.key();
        for pattern in &placed.channels {
            let is_silent = |path: &&PathIndex| {
                let mut deliver_rules = parts.deliver_rules.iter().filter(|rule| rule.paths.contains(path));
                !deliver_rules.any(|placed| placed.rule.pattern.covers(pattern))
            };
            let silent = placed.paths.iter().filter(is_silent);
            let silent: Vec<String> = silent.map(|path| format!("\"{}\"", parts.path_name(*path))).collect();
            let first = first(pattern);
            if silent.is_empty() || is_free(&first) || system_root(&first).is_some() {
                continue;
            }
            let paths = if silent.len() == 1 { "path" } else { "paths" };
            let problem = format!(
                "no [[deliver]] covers \"{pattern}\", which {name} can subscribe to on the {paths} {}",
                silent.join(", ")
            );
            let (problem, help) = match partly_shown(parts, placed, pattern) {
                Some((narrow, dotted)) => (
                    format!(
                        "{problem}: \"{narrow}\" shows only some values of {{{dotted}|dotted}}, which may be several tokens"
                    ),
                    format!("write [[deliver]] pattern = \"{pattern}\" in its place"),
                ),
                None => (problem, format!("add [[deliver]] pattern = \"{pattern}\"")),
            };
            mistakes.push(Diagnostic::error(placed.location.of(placed.names), problem, help));
        }
    }
    mistakes
}

/// For a channel with a `dotted` value: a rule that renders only some of its values, and the placeholder.
fn partly_shown<'p>(
    parts: &'p Parts<'_>,
    placed: &'p PlacedRule,
    pattern: &Pattern,
) -> Option<(&'p Pattern, &'p str)> {
    let channels = subscribe_spec(&placed.rule).map_or(&[][..], |spec| &spec.channels);
    let dotted = channels.iter().filter(|channel| channel.reach() == *pattern).find_map(Channel::dotted)?;
    let shares = |paths: &[PathIndex]| placed.paths.iter().any(|path| paths.contains(path));
    let mut deliver_rules = parts.deliver_rules.iter().filter(|rule| shares(&rule.paths));
    let narrow = deliver_rules.find(|placed| placed.rule.pattern.overlaps(pattern))?;
    Some((&narrow.rule.pattern, &dotted.name))
}

/// Reports messages whose `dotted` value could name another user: it could make the subject of another rule, in which
/// only Tidegate writes the user.
pub(super) fn dotted_identities(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let of_rules = parts
        .rules
        .iter()
        .filter_map(|placed| Some((placed.location.of(placed.names), sent_on(&placed.rule.action)?)));
    let of_routes = parts.http_routes.iter().filter_map(|placed| {
        let HttpAction::Rule(action) = &placed.route.action else { return None };
        Some((placed.location.of("subject"), sent_on(action)?))
    });
    let sent: Vec<(String, &Channel)> = of_rules.chain(of_routes).collect();
    let mut mistakes = Vec::new();
    for (key, subject) in &sent {
        let Some((hole, dotted)) = subject.places().last().filter(|(_, last)| last.is_dotted) else {
            continue;
        };
        let reach = subject.reach();
        let named =
            sent.iter().filter(|(_, other)| other.reach().overlaps(&reach)).find_map(|(other_key, other)| {
                let mut places = other.places().filter(|(token, _)| *token >= hole);
                let (_, identity) = places.find(|(_, placeholder)| is_identity(&placeholder.source))?;
                Some((other_key, other.reach(), identity))
            });
        let Some((other_key, other, identity)) = named else { continue };
        mistakes.push(Diagnostic::error(
            key.clone(),
            format!(
                "{{{}|dotted}} could name another user: {other_key} uses \"{other}\", in which only Tidegate writes {{{}}}",
                dotted.name, identity.name
            ),
            "begin one of the two with another token",
        ));
    }
    mistakes
}

/// The subject on which an action sends a message.
fn sent_on(action: &RuleAction) -> Option<&Channel> {
    match subjects_of(action) {
        (Operation::Publish | Operation::Request, subjects) => subjects.first(),
        (Operation::Subscribe, _) => None,
    }
}

fn is_identity(source: &Source) -> bool {
    matches!(source, Source::User | Source::Claims | Source::Session)
}

/// Reports `{sub.x}` that no rule keeps.
pub(super) fn missing_keeps(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for shown in parts.deliver_rules {
        let pattern = &shown.rule.pattern;
        for name in &shown.kept {
            for path in &shown.paths {
                let makers = parts.rules.iter().filter(|placed| {
                    placed.paths.contains(path)
                        && placed.channels.iter().any(|channel| channel.overlaps(pattern))
                });
                let makers: Vec<_> = makers.collect();
                let keeps = |placed: &&PlacedRule| {
                    subscribe_spec(&placed.rule)
                        .is_some_and(|spec| spec.keep.iter().any(|(kept, _)| kept == name))
                };
                // If no rule can make the channel, another check reports it.
                let Some(maker) = makers.first().filter(|_| !makers.iter().any(keeps)) else { continue };
                mistakes.push(Diagnostic::error(
                    shown.location.of("send"),
                    format!(
                        "{{sub.{name}}} is kept by no rule that can subscribe to a channel of \"{pattern}\" on the path \"{}\"",
                        parts.path_name(*path)
                    ),
                    format!("add keep = {{ {name} = … }} to {}", maker.location.key()),
));
            }
        }
    }
    mistakes
}

/// Reports values of `keep` that can differ between two messages for the same channel and group.
pub(super) fn conflicting_keeps(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let Some(spec) = subscribe_spec(&placed.rule).filter(|spec| spec.joining != JoinMode::Unique) else {
            continue;
        };
        if spec.group.as_ref().is_some_and(|group| of_message(group).next().is_some()) {
            continue;
        }
        // Values that are part of the channel are the same for the same channel.
        let is_named = |placeholder: &Placeholder| {
            spec.channels.iter().all(|channel| {
                !channel.is_wild() && channel.placeholders().any(|named| named.has_same_value(placeholder))
            })
        };
        let differs = |(_, json_template): &&(Box<str>, JsonTemplate)| {
            of_message(json_template).any(|placeholder| !is_named(placeholder))
        };
        if let Some((name, json_template)) = spec.keep.iter().find(differs) {
            let placeholder = of_message(json_template)
                .find(|placeholder| !is_named(placeholder))
                .map_or("msg.id", |placeholder| &placeholder.name);
            mistakes.push(Diagnostic::error(
                placed.location.of("keep"),
                format!(
                    "keep differs by message and group does not: of two subscriptions to overlapping channels, only one keeps its {{sub.{name}}}"
                ),
                format!("group = \"{{{placeholder}}}\""),
));
        }
    }
    mistakes
}

fn of_message(json_template: &JsonTemplate) -> impl Iterator<Item = &Placeholder> {
    json_template.placeholders().into_iter().filter(|placeholder| placeholder.source == Source::Message)
}

/// Warns of rules for publications that no client can receive.
pub(super) fn unused_deliver_rules(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let is_unused = |pattern: &Pattern, paths: &[PathIndex]| {
        let mut rules =
            parts.rules.iter().filter(|placed| placed.paths.iter().any(|path| paths.contains(path)));
        !rules.any(|placed| placed.channels.iter().any(|channel| channel.overlaps(pattern)))
            && !may_be_on(parts, pattern)
    };
    let unused = parts.deliver_rules.iter().filter(|placed| is_unused(&placed.rule.pattern, &placed.paths));
    unused.map(|placed| no_subscription(placed.location.of("pattern"), &placed.rule.pattern)).collect()
}

/// Warns of filters on channels that no client can have.
pub(super) fn unused_filters(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for placed in parts.rules {
        let RuleAction::Filter { channel, .. } = &placed.rule.action else { continue };
        for pattern in reaches(ChannelLists::of(&placed.rule), channel) {
            let shares = |other: &PlacedRule| other.paths.iter().any(|path| placed.paths.contains(path));
            let mut others = parts.rules.iter().filter(|other| shares(other));
            let is_unused =
                !others.any(|other| other.channels.iter().any(|channel| channel.overlaps(&pattern)));
            if is_unused && !may_be_on(parts, &pattern) {
                warnings.push(no_subscription(placed.location.of("channel"), &pattern));
            }
        }
    }
    warnings
}

/// Whether a rule that is off could subscribe to such channels.
fn may_be_on(parts: &Parts<'_>, pattern: &Pattern) -> bool {
    parts.off_channels.iter().any(|channel| channel.overlaps(pattern))
}

fn no_subscription(key: String, pattern: &Pattern) -> Diagnostic {
    Diagnostic::warning(key, format!("no rule can subscribe to anything that \"{pattern}\" matches"))
}

/// The channels and subjects that an action uses, except those that it leaves.
fn used(act: &RuleAction) -> Vec<&Channel> {
    match act {
        RuleAction::Subscribe(spec) => spec.channels.iter().collect(),
        RuleAction::Filter { channel, .. } => vec![channel],
        RuleAction::Publish { subject, .. } | RuleAction::Request { subject, .. } => vec![subject],
        RuleAction::Unsubscribe { .. }
        | RuleAction::Auth(_)
        | RuleAction::Send
        | RuleAction::Pong
        | RuleAction::Ignore
        | RuleAction::Error { .. }
        | RuleAction::Close { .. } => Vec::new(),
    }
}

fn subscribe_spec(rule: &Rule) -> Option<&SubscribeSpec> {
    match &rule.action {
        RuleAction::Subscribe(spec) => Some(spec),
        RuleAction::Unsubscribe { .. }
        | RuleAction::Filter { .. }
        | RuleAction::Publish { .. }
        | RuleAction::Request { .. }
        | RuleAction::Auth(_)
        | RuleAction::Send
        | RuleAction::Pong
        | RuleAction::Ignore
        | RuleAction::Error { .. }
        | RuleAction::Close { .. } => None,
    }
}

/// The values that a file lists for placeholders.
#[derive(Clone, Copy)]
struct ChannelLists<'l> {
    when: &'l [MessageTest],
    each: Option<&'l Each>,
}

impl<'l> ChannelLists<'l> {
    fn of(rule: &'l Rule) -> Self {
        Self { when: &rule.when, each: subscribe_spec(rule).and_then(|spec| spec.each.as_ref()) }
    }
}

/// Patterns that cover every subject of a template: several, if `when` or `each` list values.
fn reaches(lists: ChannelLists<'_>, channel: &Channel) -> Vec<Pattern> {
    let mut known: Vec<Vec<(&Placeholder, String)>> = vec![Vec::new()];
    for placeholder in channel.placeholders() {
        let is_known = known.iter().flatten().any(|(other, _)| *other == placeholder);
        let Some(values) = values(lists, placeholder).filter(|_| !is_known) else { continue };
        if known.len() * values.len() <= MAX_REACHES {
            let pairs = values.iter().flat_map(|value| known.iter().map(move |known| (known, value)));
            known =
                pairs.map(|(known, value)| [&known[..], &[(placeholder, value.clone())]].concat()).collect();
        }
    }
    let reach = |known: &Vec<(&Placeholder, String)>| {
        channel.reach_with(|placeholder| {
            known.iter().find(|(other, _)| *other == placeholder).map(|(_, value)| &**value)
        })
    };
    known.iter().map(reach).collect()
}

/// The tokens that a placeholder can become, if the file lists them.
fn values(lists: ChannelLists<'_>, placeholder: &Placeholder) -> Option<Vec<String>> {
    if placeholder.source == Source::Item {
        let Some(Each::List(items)) = lists.each else { return None };
        let part = |item| subject_part(placeholder, &placeholder.value(&Listed(Source::Item, item))?);
        return Some(items.iter().filter_map(|item| part(item)).collect());
    }
    lists.when.iter().find_map(|test| {
        let Matcher::OneOf(literals) = &test.matcher else { return None };
        let messages = literals.iter().map(|literal| message(&test.path, literal));
        // A placeholder that reads another member finds no token in such messages.
        let part =
            |message: &str| subject_part(placeholder, &placeholder.value(&Listed(Source::Message, message))?);
        messages.map(|message| part(&message)).collect()
    })
}

/// A message with this literal and nothing else.
fn message(path: &[Step], literal: &Literal) -> String {
    let literal = match literal {
        Literal::Text(text) => json::string(text),
        Literal::Integer(number) => number.to_string(),
        Literal::Boolean(truth) => truth.to_string(),
        Literal::EmptyList => "[]".to_owned(),
    };
    path.iter().rev().fold(literal, |value, step| format!("{{{}:{value}}}", json::string(step.name())))
}

/// One value that the file lists, as JSON.
struct Listed<'l>(Source, &'l str);

impl Resolve for Listed<'_> {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        (*source == self.0).then(|| SourceValue::Value(Value::Json(self.1.into())))
    }
}
