//! Checks of where clients come in.

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::check::parts::Parts;
use crate::model::PathRule;
use crate::model::Segment;

/// What Tidegate itself answers on every listener.
const OWN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Paths of Tidegate's own.
pub(super) fn own_paths(parts: &Parts<'_>) -> Vec<Diagnostic> {
    own("path", parts.paths.iter().map(|path| &*path.template))
}

/// Calls to Tidegate's own paths.
pub(super) fn own_calls(parts: &Parts<'_>) -> Vec<Diagnostic> {
    own("http", parts.calls.iter().map(|call| &*call.template))
}

fn own<'p>(section: &str, paths: impl Iterator<Item = &'p str>) -> Vec<Diagnostic> {
    let own = paths.enumerate().filter(|(_, path)| OWN_PATHS.contains(path));
    let mistake = |(at, _)| {
        Diagnostic::error(
            format!("{section}[{at}].path"),
            "is a path of Tidegate's own",
            format!("choose another path than {}", OWN_PATHS.join(", ")),
        )
    };
    own.map(mistake).collect()
}

/// Paths to which no client comes, for an earlier one takes it in.
pub(super) fn taken_paths(parts: &Parts<'_>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (at, path) in parts.paths.iter().enumerate() {
        let Some(earlier) = parts.paths[..at].iter().find(|earlier| takes(earlier, path)) else { continue };
        let (one, other) = (&earlier.template, &path.template);
        let (problem, help) = if takes(path, earlier) {
            (format!("\"{one}\" and \"{other}\" are the same path"), "remove one, or give it another segment")
        } else {
            let problem = format!("nobody comes to \"{other}\": \"{one}\" takes all that it could");
            (problem, "move it above the other")
        };
        mistakes.push(Diagnostic::error(format!("path[{at}].path"), problem, help));
    }
    mistakes
}

/// Whether a path is at every place where another is.
fn takes(one: &PathRule, other: &PathRule) -> bool {
    let (mine, theirs) = (&one.segments, &other.segments);
    let takes =
        |(mine, theirs): (&Segment, &Segment)| matches!(mine, Segment::Parameter(_)) || mine == theirs;
    // One that could not be read has no segments.
    !mine.is_empty() && mine.len() == theirs.len() && mine.iter().zip(theirs).all(takes)
}
