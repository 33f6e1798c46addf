//! Rules for what browsers may do: origins, cookies and tickets together.

use crate::config::Config;
use crate::config::allowed_origins::AllowedOrigins;
use crate::config::table::ConfigTable;

/// Reports all errors and warnings.
pub(super) fn check(root: &ConfigTable<'_>, config: &Config) {
    let has_cookie = !config.auth.cookie.is_empty();
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        if endpoint.allowed_origins != Some(AllowedOrigins::Any) {
            continue;
        }
        let key = format!("endpoint[{at}].allowed_origins");
        if has_cookie && endpoint.cookie {
            let message = "[\"*\"] lets every page act with its visitor's cookie (auth.cookie)";
            let help = "list the origins of your pages, or set cookie = false in this endpoint";
            root.error(&key, message, help);
        } else {
            let message = "every page on the web may connect to this endpoint from its visitors' browsers, also into a \
                           private network; list the origins of your pages, unless everyone may read what is here";
            root.warning(&key, message);
        }
    }
    if config.http.console && config.http.public_url.is_none() {
        let message = "the demo page and the test pages cannot connect, because this node does not know its own address; \
                       set it to the address that browsers use, such as \"http://localhost:8080\"";
        root.warning("http.public_url", message);
    }
    let has_pages = |origins: &Option<AllowedOrigins>| match origins {
        Some(AllowedOrigins::Listed(listed)) => !listed.is_empty(),
        Some(AllowedOrigins::Any) | None => false,
    };
    let has_any_page = config.http.public_url.is_some()
        || !config.http.allowed_origins.is_empty()
        || config.endpoints.iter().any(|endpoint| has_pages(&endpoint.allowed_origins));
    if has_cookie && !has_any_page {
        let message = "no page may use this cookie over a WebSocket: list the origins of your pages in \
                       http.allowed_origins, or set http.public_url";
        root.warning("auth.cookie", message);
    }
}
