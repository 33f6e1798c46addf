//! `AllowedOrigins`: which pages may talk to an endpoint, and the keys that say so.

use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;

use crate::config::origin::OriginError;
use crate::config::origin::WebOrigin;
use crate::config::table::ConfigTable;

/// Which pages may talk to an endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AllowedOrigins {
    /// `["*"]`: all pages.
    Any,
    Listed(Vec<WebOrigin>),
}

/// A list of origins.
pub(super) fn list(table: &ConfigTable<'_>, key: &'static str) -> Option<Vec<WebOrigin>> {
    table.list(key, |text| configured(text, "allowed_origins = [\"*\"] is possible in an [[endpoint]] only"))
}

/// `allowed_origins` of an endpoint, which may be `["*"]`. `None` if the key is absent.
pub(super) fn list_or_any(table: &ConfigTable<'_>, key: &'static str) -> Option<AllowedOrigins> {
    let texts = table.texts(key)?;
    if let [only] = texts.value.as_slice()
        && only.text.trim() == "*"
    {
        return Some(AllowedOrigins::Any);
    }
    let help = "list each origin, or write [\"*\"] alone to let every page connect";
    table.list(key, |text| configured(text, help)).map(AllowedOrigins::Listed)
}

/// `http.public_url`. Empty: `None`.
pub(super) fn public_url(text: &str) -> Result<Option<WebOrigin>, ValueError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let help = "write the address that browsers use, such as \"https://edge.example.com\"";
    // A URL may end with a slash.
    let origin = configured(text.strip_suffix('/').unwrap_or(text), help)?;
    if origin.as_str().starts_with("http://") || origin.as_str().starts_with("https://") {
        return Ok(Some(origin));
    }
    Err(ValueError::new("is not a URL with http:// or https://", help))
}

/// An origin in the configuration. `wildcard_help` is for a text with `*`.
fn configured(text: &str, wildcard_help: &str) -> Result<WebOrigin, ValueError> {
    let text = text.trim();
    WebOrigin::parse(text).map_err(|error| {
        let help = match error {
            OriginError::Wildcard => wildcard_help.to_owned(),
            OriginError::TrailingSlash => {
                format!("remove the slash at the end: {}", quoted(text.trim_end_matches('/')))
            }
            OriginError::TrailingDot => "remove the dot at the end".to_owned(),
            OriginError::Null => {
                "serve the page over http:// or https://: every sandboxed page and every local file has the origin \
                 \"null\""
                    .to_owned()
            }
            OriginError::NotAscii => {
                "write the name as browsers send it, in Punycode: \"https://xn--bcher-kva.example\"".to_owned()
            }
            OriginError::BadScheme => "write the address of the page, with http:// or https://".to_owned(),
            OriginError::Empty
            | OriginError::TooLong
            | OriginError::NoScheme
            | OriginError::Path
            | OriginError::UserInformation
            | OriginError::BadHost
            | OriginError::BadPort => {
                "write scheme, host and port only, such as \"https://app.example.com\" or \"http://localhost:3000\""
                    .to_owned()
            }
        };
        ValueError::new(error.words(), help)
    })
}
