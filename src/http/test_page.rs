//! The test page of a vocabulary (`do = "console"`): connects to one of its paths, sends messages, and shows messages.
//! Its script and style sheet have the page's own path and a query, so they need no other routes.

use tidegate_vocabulary::model::CompiledVocabulary;
use warp::reply::Response;

use crate::http::console;

const PAGE: &str = include_str!("test_page.html");
const SCRIPT: &str = concat!(include_str!("diagnosis.js"), include_str!("test_page.js"));
const OUTLINE: &str = "{{outline}}";

/// The page, or one of its files, by the query.
pub fn answer(vocabulary: &CompiledVocabulary, query: Option<&str>) -> Response {
    match query {
        Some("script") => console::file("text/javascript; charset=utf-8", SCRIPT),
        Some("style") => console::style(),
        Some(_) | None => {
            let outline = escaped(&vocabulary.outline().to_string());
            console::file("text/html; charset=utf-8", PAGE.replace(OUTLINE, &outline))
        }
    }
}

/// Escapes text for an HTML attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
