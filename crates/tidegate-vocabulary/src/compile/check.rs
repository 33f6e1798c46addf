//! Check: what the parts of a vocabulary's file say of each other. Each check is a function of what was compiled.

pub(super) mod channels;
mod groups;
pub(super) mod parts;
mod paths;
mod taken;

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::check::channels::calls_without_space;
use crate::compile::check::channels::filters_of_nothing;
use crate::compile::check::channels::keeps_that_differ;
use crate::compile::check::channels::kept_by_nobody;
use crate::compile::check::channels::shown_to_nobody;
use crate::compile::check::channels::without_space;
use crate::compile::check::channels::without_words;
use crate::compile::check::groups::left_elsewhere;
use crate::compile::check::parts::Parts;
use crate::compile::check::paths::own_calls;
use crate::compile::check::paths::own_paths;
use crate::compile::check::paths::taken_paths;
use crate::compile::check::taken::taken_pongs;
use crate::compile::check::taken::taken_rules;
use crate::compile::check::taken::taken_shows;
use crate::model::PathRule;

/// What is wrong with paths.
pub(super) fn of_paths(parts: &Parts<'_>) -> Vec<Diagnostic> {
    [own_paths(parts), taken_paths(parts)].concat()
}

/// What is wrong with calls that are sound, each by itself.
pub(super) fn of_calls(parts: &Parts<'_>) -> Vec<Diagnostic> {
    [own_calls(parts), calls_without_space(parts)].concat()
}

/// What is wrong with rules that are sound, each by itself.
pub(super) fn of_rules(parts: &Parts<'_>) -> Vec<Diagnostic> {
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
pub(super) fn warnings(parts: &Parts<'_>) -> Vec<Diagnostic> {
    [shown_to_nobody(parts), filters_of_nothing(parts), tokens_in_urls(parts)].concat()
}

/// Paths whose clients show who they are where others see it.
fn tokens_in_urls(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let paths = parts.paths.iter().enumerate().filter(|(_, path)| path.token_query.is_some());
    let warning = |(at, _): (usize, &PathRule)| {
        Diagnostic::warning(
            format!("path[{at}].token_query"),
            "takes a token in the URL, where logs and histories keep it".to_owned(),
        )
    };
    paths.map(warning).collect()
}
