//! Checks of channels: where they lie, who shows their publications, and what is kept for that.

use std::collections::BTreeSet;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::message::Joining;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::subject::Pattern;

use crate::channel::Channel;
use crate::channel::token;
use crate::compile::check::parts::Parts;
use crate::compile::check::parts::PlacedRule;
use crate::json_template::JsonTemplate;
use crate::model::Act;
use crate::model::Each;
use crate::model::HttpAction;
use crate::model::Is;
use crate::model::Literal;
use crate::model::PathIndex;
use crate::model::Rule;
use crate::model::SubscribeSpec;
use crate::model::Test;
use crate::placeholder::Given;
use crate::placeholder::Placeholder;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::Value;

/// As many channels are looked at one by one; beyond that a placeholder counts as any token.
const MAX_REACHES: usize = 1024;

/// What covers the channels that a rule can subscribe to.
pub(in crate::compile) fn subscribed(rule: &Rule) -> Vec<Pattern> {
    let channels = wants(rule).map_or(&[][..], |wants| &wants.channels);
    let mut all: Vec<Pattern> =
        channels.iter().flat_map(|channel| reaches(ChannelLists::of(rule), channel)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Channels and subjects that may lie anywhere, or where no client may be. To leave one that is not held does nothing.
pub(super) fn without_space(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        for channel in used(&placed.rule.act) {
            let reaches = reaches(ChannelLists::of(&placed.rule), channel);
            mistakes.extend(wrong_firsts(&placed.location.of(placed.names), channel, &reaches));
        }
    }
    mistakes
}

/// The same for calls.
pub(super) fn calls_without_space(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (at, call) in parts.calls.iter().enumerate() {
        let (name, channels, each) = match &call.action {
            HttpAction::Act(act) => ("subject", used(act), None),
            HttpAction::Last { each, channels } => {
                let name = if channels.len() == 1 { "channel" } else { "channels" };
                (name, channels.iter().collect(), each.as_ref())
            }
            HttpAction::Stats | HttpAction::Receive | HttpAction::Health | HttpAction::Console => continue,
        };
        for channel in channels {
            let reaches = reaches(ChannelLists { when: &[], each }, channel);
            mistakes.extend(wrong_firsts(&format!("http[{at}].{name}"), channel, &reaches));
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
        let problem = format!("\"{token}\" belongs to NATS and Tidegate");
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

/// Channels whose publications no rule shows to who has subscribed to them.
pub(super) fn without_words(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let name = placed.location.key();
        for pattern in &placed.channels {
            let is_silent = |path: &&PathIndex| {
                let mut shows = parts.shows.iter().filter(|show| show.paths.contains(path));
                !shows.any(|placed| placed.show.pattern.covers(pattern))
            };
            let silent = placed.paths.iter().filter(is_silent);
            let silent: Vec<String> = silent.map(|path| format!("\"{}\"", parts.path_name(*path))).collect();
            let first = first(pattern);
            if silent.is_empty() || is_free(&first) || system_root(&first).is_some() {
                continue;
            }
            let paths = if silent.len() == 1 { "path" } else { "paths" };
            mistakes.push(Diagnostic::error(
                placed.location.of(placed.names),
                format!(
                    "no [[deliver]] covers \"{pattern}\", which {name} can subscribe to on the {paths} {}",
                    silent.join(", ")
                ),
                format!("add [[deliver]] pattern = \"{pattern}\""),
            ));
        }
    }
    mistakes
}

/// `{sub.x}` that is never there.
pub(super) fn kept_by_nobody(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for shown in parts.shows {
        let pattern = &shown.show.pattern;
        for name in &shown.kept {
            for path in &shown.paths {
                let makers = parts.rules.iter().filter(|placed| {
                    placed.paths.contains(path)
                        && placed.channels.iter().any(|channel| channel.overlaps(pattern))
                });
                let makers: Vec<_> = makers.collect();
                let keeps = |placed: &&PlacedRule| {
                    wants(&placed.rule).is_some_and(|wants| wants.keep.iter().any(|(kept, _)| kept == name))
                };
                // Where no one can make the channel, that is said.
                let Some(maker) = makers.first().filter(|_| !makers.iter().any(keeps)) else { continue };
                mistakes.push(Diagnostic::error(
                    shown.location.of("send"),
                    format!(
                        "{{sub.{name}}} is kept by no rule that can make a channel of \"{pattern}\" on the path \"{}\"",
                        parts.path_name(*path)
                    ),
                    format!("add keep = {{ {name} = … }} to {}", maker.location.key()),
));
            }
        }
    }
    mistakes
}

/// What is kept for channels of which another message may have the same, with something else kept for it.
pub(super) fn keeps_that_differ(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for placed in parts.rules {
        let Some(wants) = wants(&placed.rule).filter(|wants| wants.joining != Joining::Unique) else {
            continue;
        };
        if wants.group.as_ref().is_some_and(|group| of_message(group).next().is_some()) {
            continue;
        }
        // What is in the channel itself is the same for the same channel.
        let is_named = |placeholder: &Placeholder| {
            wants
                .channels
                .iter()
                .all(|channel| !channel.is_wild() && channel.placeholders().any(|named| named == placeholder))
        };
        let differs = |(_, json_template): &&(Box<str>, JsonTemplate)| {
            of_message(json_template).any(|placeholder| !is_named(placeholder))
        };
        if let Some((name, json_template)) = wants.keep.iter().find(differs) {
            let placeholder = of_message(json_template)
                .find(|placeholder| !is_named(placeholder))
                .map_or("msg.id", |placeholder| &placeholder.name);
            mistakes.push(Diagnostic::error(
                placed.location.of("keep"),
                format!(
                    "keep differs by message and group does not: of two channels that overlap only one keeps its {{sub.{name}}}"
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

/// Rules for publications that no one is sent.
pub(super) fn shown_to_nobody(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let is_unused = |pattern: &Pattern, paths: &[PathIndex]| {
        let mut rules =
            parts.rules.iter().filter(|placed| placed.paths.iter().any(|path| paths.contains(path)));
        !rules.any(|placed| placed.channels.iter().any(|channel| channel.overlaps(pattern)))
    };
    let unused = parts.shows.iter().filter(|placed| is_unused(&placed.show.pattern, &placed.paths));
    unused.map(|placed| nobody(placed.location.of("pattern"), &placed.show.pattern)).collect()
}

/// Filters of channels that no one has.
pub(super) fn filters_of_nothing(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for placed in parts.rules {
        let Act::Filter { channel, .. } = &placed.rule.act else { continue };
        for pattern in reaches(ChannelLists::of(&placed.rule), channel) {
            let shares = |other: &PlacedRule| other.paths.iter().any(|path| placed.paths.contains(path));
            let mut others = parts.rules.iter().filter(|other| shares(other));
            if !others.any(|other| other.channels.iter().any(|channel| channel.overlaps(&pattern))) {
                warnings.push(nobody(placed.location.of("channel"), &pattern));
            }
        }
    }
    warnings
}

fn nobody(key: String, pattern: &Pattern) -> Diagnostic {
    Diagnostic::warning(key, format!("no rule can subscribe to anything that \"{pattern}\" matches"))
}

/// The channels and subjects by which a rule makes something happen.
fn used(act: &Act) -> Vec<&Channel> {
    match act {
        Act::Subscribe(wants) => wants.channels.iter().collect(),
        Act::Filter { channel, .. } => vec![channel],
        Act::Publish { subject, .. } | Act::Request { subject, .. } => vec![subject],
        Act::Unsubscribe { .. }
        | Act::Auth(_)
        | Act::Send
        | Act::Pong
        | Act::Ignore
        | Act::Error { .. }
        | Act::Close { .. } => Vec::new(),
    }
}

fn wants(rule: &Rule) -> Option<&SubscribeSpec> {
    match &rule.act {
        Act::Subscribe(wants) => Some(wants),
        Act::Unsubscribe { .. }
        | Act::Filter { .. }
        | Act::Publish { .. }
        | Act::Request { .. }
        | Act::Auth(_)
        | Act::Send
        | Act::Pong
        | Act::Ignore
        | Act::Error { .. }
        | Act::Close { .. } => None,
    }
}

/// Where a file lists what placeholders can become.
#[derive(Clone, Copy)]
struct ChannelLists<'l> {
    when: &'l [Test],
    each: Option<&'l Each>,
}

impl<'l> ChannelLists<'l> {
    fn of(rule: &'l Rule) -> Self {
        Self { when: &rule.when, each: wants(rule).and_then(|wants| wants.each.as_ref()) }
    }
}

/// What covers all that a channel can become: several, where `when` or `each` list values.
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

/// The tokens that a placeholder can become, if they are listed.
fn values(lists: ChannelLists<'_>, placeholder: &Placeholder) -> Option<Vec<String>> {
    if placeholder.source == Source::Item {
        let Some(Each::List(items)) = lists.each else { return None };
        return Some(
            items.iter().filter_map(|item| token(&placeholder.value(&Listed(Source::Item, item))?)).collect(),
        );
    }
    lists.when.iter().find_map(|test| {
        let Is::OneOf(literals) = &test.is else { return None };
        let messages = literals.iter().map(|literal| message(&test.path, literal));
        // A placeholder that looks elsewhere finds no token in such messages.
        messages.map(|message| token(&placeholder.value(&Listed(Source::Message, &message))?)).collect()
    })
}

/// A message that has this literal, and nothing else.
fn message(path: &[Step], literal: &Literal) -> String {
    let literal = match literal {
        Literal::Text(text) => json::string(text),
        Literal::Whole(number) => number.to_string(),
        Literal::Truth(truth) => truth.to_string(),
    };
    path.iter().rev().fold(literal, |value, step| format!("{{{}:{value}}}", json::string(step.name())))
}

/// One value that the file lists, as JSON.
struct Listed<'l>(Source, &'l str);

impl Resolve for Listed<'_> {
    fn value(&self, source: &Source) -> Option<Given<'_>> {
        (*source == self.0).then(|| Given::Value(Value::Json(self.1.into())))
    }
}
