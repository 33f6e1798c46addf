//! The route of a request as metrics name it: the template of its path, never the path itself, which clients choose.

use crate::http::gate::Gate;

/// Paths that are their own template.
const FIXED: [&str; 9] = [
    "/",
    "/healthz",
    "/readyz",
    "/v1/ticket",
    "/v1/preflight",
    "/console.js",
    "/console.css",
    "/metrics",
    "/connections",
];

/// Paths that end with a name, by their beginning.
const NAMED: [(&str, &str); 2] =
    [("/connections/", "/connections/{session}"), ("/console/", "/console/{vocabulary}")];

/// The template of a path at a listener; `other` if the node serves nothing there.
pub(super) fn of<'g>(gate: &'g Gate, path: &str) -> &'g str {
    let served = gate.endpoints().find_map(|endpoint| endpoint.template_of(path));
    let fixed = || FIXED.into_iter().find(|fixed| *fixed == path);
    let named = || NAMED.into_iter().find(|(start, _)| path.starts_with(start)).map(|(_, template)| template);
    served.or_else(fixed).or_else(named).unwrap_or("other")
}
