//! Check: what the parts of a vocabulary's file say of each other. Each check is a function of what was compiled.

mod channels;
mod groups;
mod paths;
mod taken;

use crate::protocol::subject::Pattern;
use crate::vocabulary::call::Call;
use crate::vocabulary::compile::check::channels::calls_without_space;
use crate::vocabulary::compile::check::channels::filters_of_nothing;
use crate::vocabulary::compile::check::channels::keeps_that_differ;
use crate::vocabulary::compile::check::channels::kept_by_nobody;
use crate::vocabulary::compile::check::channels::shown_to_nobody;
use crate::vocabulary::compile::check::channels::subscribed;
use crate::vocabulary::compile::check::channels::without_space;
use crate::vocabulary::compile::check::channels::without_words;
use crate::vocabulary::compile::check::groups::left_elsewhere;
use crate::vocabulary::compile::check::paths::own_calls;
use crate::vocabulary::compile::check::paths::own_paths;
use crate::vocabulary::compile::check::paths::taken_paths;
use crate::vocabulary::compile::check::taken::taken_pongs;
use crate::vocabulary::compile::check::taken::taken_rules;
use crate::vocabulary::compile::check::taken::taken_shows;
use crate::vocabulary::described::PathRule;
use crate::vocabulary::described::Rule;
use crate::vocabulary::described::Show;
use crate::vocabulary::described::Test;
use crate::vocabulary::source::Location;
use crate::vocabulary::source::Mistake;
use crate::vocabulary::source::Section;
use crate::vocabulary::source::Warning;

/// A rule that could be read.
#[derive(Debug)]
pub(super) struct PlacedRule {
    pub(super) rule: Rule,
    /// Where it stands.
    pub(super) location: Location,
    /// Its key that names channels or a subject.
    pub(super) names: &'static str,
    /// For which paths it holds.
    pub(super) paths: Vec<u16>,
    /// Whether messages come to it; if not, it is done when a client has come in.
    pub(super) is_received: bool,
    /// What covers the channels that it can subscribe to.
    channels: Vec<Pattern>,
}

impl PlacedRule {
    /// A rule that stands in this section.
    pub(super) fn new(rule: Rule, section: &Section<'_>, paths: &[u16], is_received: bool) -> Self {
        let names = ["channels", "subject"].into_iter().find(|name| section.get(name).is_some());
        Self {
            channels: subscribed(&rule),
            rule,
            location: section.location().clone(),
            names: names.unwrap_or("channel"),
            paths: paths.to_vec(),
            is_received,
        }
    }
}

/// A rule for publications that could be read.
#[derive(Debug)]
pub(super) struct PlacedShow {
    pub(super) show: Show,
    /// Where it stands.
    pub(super) location: Location,
    /// For which paths it holds.
    pub(super) paths: Vec<u16>,
    /// What it shows of `{sub.…}`.
    pub(super) kept: Vec<Box<str>>,
}

/// What was compiled.
pub(super) struct Parts<'p> {
    pub(super) paths: &'p [PathRule],
    pub(super) rules: &'p [PlacedRule],
    pub(super) shows: &'p [PlacedShow],
    pub(super) calls: &'p [Call],
    pub(super) pong: Option<&'p [Test]>,
}

impl Parts<'_> {
    fn path_name(&self, path: u16) -> &str {
        self.paths.get(usize::from(path)).map_or("", |path| &path.name)
    }
}

/// What is wrong with paths.
pub(super) fn of_paths(parts: &Parts<'_>) -> Vec<Mistake> {
    [own_paths(parts), taken_paths(parts)].concat()
}

/// What is wrong with calls that are sound, each by itself.
pub(super) fn of_calls(parts: &Parts<'_>) -> Vec<Mistake> {
    [own_calls(parts), calls_without_space(parts)].concat()
}

/// What is wrong with rules that are sound, each by itself.
pub(super) fn of_rules(parts: &Parts<'_>) -> Vec<Mistake> {
    let checks = [
        without_space,
        taken_rules,
        taken_shows,
        taken_pongs,
        keeps_that_differ,
        without_words,
        kept_by_nobody,
        left_elsewhere,
    ];
    checks.iter().flat_map(|check| check(parts)).collect()
}

/// What is allowed and probably not meant.
pub(super) fn warnings(parts: &Parts<'_>) -> Vec<Warning> {
    [shown_to_nobody(parts), filters_of_nothing(parts), tokens_in_urls(parts)].concat()
}

/// Paths whose clients show who they are where others see it.
fn tokens_in_urls(parts: &Parts<'_>) -> Vec<Warning> {
    let paths = parts.paths.iter().enumerate().filter(|(_, path)| path.token_query.is_some());
    let warning = |(at, _): (usize, &PathRule)| Warning {
        key: format!("path[{at}].token_query"),
        text: "takes a token in the URL, where logs and histories keep it".to_owned(),
    };
    paths.map(warning).collect()
}
