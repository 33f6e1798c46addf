//! The page of `tidegate dev`: a live table of channels, a log, and a form to subscribe.

use warp::Filter;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::filters::Routes;
use crate::http::filters::read_only;

const PAGE: &str = include_str!("console.html");
/// A module, so that whoever tries something in the browser's console has all names free.
const SCRIPT: &str = concat!(include_str!("diagnosis.js"), include_str!("console.js"));
const STYLE: &str = include_str!("console.css");
/// Nothing from elsewhere, nothing inline; the socket is this page's own origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and what it needs.
pub fn routes() -> Routes {
    let page = warp::path::end().and(read_only()).map(|| file("text/html; charset=utf-8", PAGE));
    let script =
        warp::path!("console.js").and(read_only()).map(|| file("text/javascript; charset=utf-8", SCRIPT));
    let style = warp::path!("console.css").and(read_only()).map(style);
    page.or(script).unify().or(style).unify().boxed()
}

/// What pages for people look like.
pub(super) fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

/// A file of a page for people.
pub(super) fn file(kind: &'static str, text: impl Reply) -> Response {
    let response = warp::reply::with_header(text, "content-type", kind);
    let response = warp::reply::with_header(response, "content-security-policy", POLICY);
    let response = warp::reply::with_header(response, "x-content-type-options", "nosniff");
    let response = warp::reply::with_header(response, "referrer-policy", "no-referrer");
    warp::reply::with_header(response, "cache-control", "no-store").into_response()
}
