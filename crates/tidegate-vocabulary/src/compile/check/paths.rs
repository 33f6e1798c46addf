//! Checks of paths.

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::check::parts::Parts;
use crate::model::PathRule;
use crate::model::Segment;

/// Paths that Tidegate answers itself on every listener.
const OWN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Reports paths that Tidegate uses itself.
pub(super) fn reserved_paths(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let paths = parts.paths.iter().enumerate();
    own(paths.map(|(at, path)| (format!("path[{at}].path"), &*path.template)))
}

/// Reports HTTP routes on paths that Tidegate uses itself.
pub(super) fn reserved_http_paths(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let routes = parts.http_routes.iter();
    own(routes.map(|placed| (placed.location.of("path"), &*placed.route.template)))
}

/// Reports these paths, each with its key, if Tidegate uses them.
fn own<'p>(paths: impl Iterator<Item = (String, &'p str)>) -> Vec<Diagnostic> {
    let own = paths.filter(|(_, path)| OWN_PATHS.contains(path));
    let error = |(key, _)| {
        let help = format!("choose another path than {}", OWN_PATHS.join(", "));
        Diagnostic::error(key, "is reserved for Tidegate", help)
    };
    own.map(error).collect()
}

/// Reports paths that never match, because an earlier path matches first.
pub(super) fn unreachable_paths(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (at, path) in parts.paths.iter().enumerate() {
        let Some(earlier) = parts.paths[..at].iter().find(|earlier| takes(earlier, path)) else { continue };
        let (one, other) = (&earlier.template, &path.template);
        let (problem, help) = if takes(path, earlier) {
            (format!("\"{one}\" and \"{other}\" are the same path"), "remove one, or give it another segment")
        } else {
            let problem = format!("\"{other}\" is unreachable: \"{one}\" matches all its requests");
            (problem, "move it above the other")
        };
        mistakes.push(Diagnostic::error(format!("path[{at}].path"), problem, help));
    }
    mistakes
}

/// Whether `one` matches every path that `other` matches.
fn takes(one: &PathRule, other: &PathRule) -> bool {
    let (mine, theirs) = (&one.segments, &other.segments);
    let takes =
        |(mine, theirs): (&Segment, &Segment)| matches!(mine, Segment::Parameter(_)) || mine == theirs;
    // A path with a syntax error has no segments.
    !mine.is_empty() && mine.len() == theirs.len() && mine.iter().zip(theirs).all(takes)
}
