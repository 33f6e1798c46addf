//! Check: compares the parts of a vocabulary with each other. Each check is a function of the compiled parts.

pub(super) mod channels;
mod claimed_users;
mod groups;
pub(super) mod parts;
mod paths;
mod unreachable;

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::check::channels::channels_without_deliver_rule;
use crate::compile::check::channels::channels_without_prefix;
use crate::compile::check::channels::conflicting_keeps;
use crate::compile::check::channels::dotted_identities;
use crate::compile::check::channels::http_channels_without_prefix;
use crate::compile::check::channels::missing_keeps;
use crate::compile::check::channels::unused_deliver_rules;
use crate::compile::check::channels::unused_filters;
use crate::compile::check::claimed_users::uses_of_claimed_users;
use crate::compile::check::groups::unsubscribes_from_other_groups;
use crate::compile::check::parts::Parts;
use crate::compile::check::paths::reserved_http_paths;
use crate::compile::check::paths::reserved_paths;
use crate::compile::check::paths::unreachable_paths;
use crate::compile::check::unreachable::ambiguous_pongs;
use crate::compile::check::unreachable::unreachable_deliver_rules;
use crate::compile::check::unreachable::unreachable_http_routes;
use crate::compile::check::unreachable::unreachable_rules;
use crate::model::PathRule;

/// Errors in paths.
pub(super) fn of_paths(parts: &Parts<'_>) -> Vec<Diagnostic> {
    [reserved_paths(parts), unreachable_paths(parts)].concat()
}

/// Errors in HTTP routes. Each route is valid alone.
pub(super) fn of_http_routes(parts: &Parts<'_>) -> Vec<Diagnostic> {
    [reserved_http_paths(parts), unreachable_http_routes(parts), http_channels_without_prefix(parts)].concat()
}

/// Errors in rules. Each rule is valid alone.
pub(super) fn of_rules(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let checks = [
        channels_without_prefix,
        dotted_identities,
        unreachable_rules,
        unreachable_deliver_rules,
        ambiguous_pongs,
        conflicting_keeps,
        channels_without_deliver_rule,
        missing_keeps,
        unsubscribes_from_other_groups,
        uses_of_claimed_users,
    ];
    checks.iter().flat_map(|check| check(parts)).collect()
}

/// Findings that are allowed but probably not intended.
pub(super) fn warnings(parts: &Parts<'_>) -> Vec<Diagnostic> {
    [unused_deliver_rules(parts), unused_filters(parts), tokens_in_urls(parts)].concat()
}

/// Warns of credentials in URLs.
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
