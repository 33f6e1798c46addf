//! The console, the page of `tidegate dev`: a live table of channels, a log, and a form to subscribe.

use warp::Filter;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::filters::Routes;
use crate::http::filters::read_only;

const PAGE: &str = include_str!("console.html");
/// A module, so that code in the browser's console can use any name.
const SCRIPT: &str = concat!(include_str!("diagnosis.js"), include_str!("console.js"));
const STYLE: &str = include_str!("console.css");
/// The path of the endpoint, in the page.
const SOCKET: &str = "{{socket}}";
/// Nothing from other origins, and nothing inline. The WebSocket has the page's own origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, its script and its style sheet. The page connects to this path.
pub fn routes(socket: &str) -> Routes {
    let text = PAGE.replace(SOCKET, &escaped(socket));
    let page = warp::path::end().and(read_only()).map(move || file("text/html; charset=utf-8", text.clone()));
    let script =
        warp::path!("console.js").and(read_only()).map(|| file("text/javascript; charset=utf-8", SCRIPT));
    let style = warp::path!("console.css").and(read_only()).map(style);
    page.or(script).unify().or(style).unify().boxed()
}

/// The style sheet of the console and the test pages.
pub(super) fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

/// Escapes text for an HTML attribute.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One file of a page, with the headers that protect it.
pub(super) fn file(kind: &'static str, text: impl Reply) -> Response {
    let response = warp::reply::with_header(text, "content-type", kind);
    let response = warp::reply::with_header(response, "content-security-policy", POLICY);
    let response = warp::reply::with_header(response, "x-content-type-options", "nosniff");
    let response = warp::reply::with_header(response, "referrer-policy", "no-referrer");
    warp::reply::with_header(response, "cache-control", "no-store").into_response()
}
