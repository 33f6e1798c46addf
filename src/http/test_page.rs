//! The page of `do = "console"` in a vocabulary: connects by one of its paths, sends what one writes, shows what comes.
//! Its files have the page's own path and a query, so that they are wherever the page is.

use tidegate_vocabulary::model::CompiledVocabulary;
use warp::reply::Response;

use crate::http::console;

const PAGE: &str = include_str!("test_page.html");
const SCRIPT: &str = concat!(include_str!("diagnosis.js"), include_str!("test_page.js"));
const OUTLINE: &str = "{{outline}}";

/// What the page's path answers.
pub fn answer(described: &CompiledVocabulary, query: Option<&str>) -> Response {
    match query {
        Some("script") => console::file("text/javascript; charset=utf-8", SCRIPT),
        Some("style") => console::style(),
        Some(_) | None => {
            let outline = escaped(&described.outline().to_string());
            console::file("text/html; charset=utf-8", PAGE.replace(OUTLINE, &outline))
        }
    }
}

/// As the value of an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
