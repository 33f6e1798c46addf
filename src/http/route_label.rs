//! The route of a request as metrics name it: the template of its path, never the path itself, which clients choose.

use crate::http::gate::Gate;

/// Paths that are their own template.
const FIXED: [&str; 16] = [
    "/",
    "/healthz",
    "/readyz",
    "/v1/publish",
    "/v1/ticket",
    "/v1/preflight",
    "/console.js",
    "/console.css",
    "/metrics",
    "/connections",
    "/events",
    "/explain",
    "/config",
    "/subscriptions",
    "/nodes",
    "/revoke",
];

/// Paths that end with a name, by their beginning.
const NAMED: [(&str, &str); 2] =
    [("/connections/", "/connections/{session}"), ("/console/", "/console/{vocabulary}")];

/// What the calls about a user do, by the beginnings of their paths.
const USERS: [(&str, [(&str, &str); 2]); 2] = [
    (
        "/v1/users/",
        [("/disconnect", "/v1/users/{user}/disconnect"), ("/unsubscribe", "/v1/users/{user}/unsubscribe")],
    ),
    ("/users/", [("/disconnect", "/users/{user}/disconnect"), ("/unsubscribe", "/users/{user}/unsubscribe")]),
];

/// The template of a path at a listener; `other` if the node serves nothing there.
pub(super) fn of<'g>(gate: &'g Gate, path: &str) -> &'g str {
    let served = gate.endpoints().find_map(|endpoint| endpoint.template_of(path));
    let fixed = || FIXED.into_iter().find(|fixed| *fixed == path);
    let named = || NAMED.into_iter().find(|(start, _)| path.starts_with(start)).map(|(_, template)| template);
    served.or_else(fixed).or_else(named).or_else(|| about_user(path)).unwrap_or("other")
}

fn about_user(path: &str) -> Option<&'static str> {
    let (_, calls) = USERS.into_iter().find(|(start, _)| path.starts_with(start))?;
    calls.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, template)| template)
}
