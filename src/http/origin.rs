//! `OriginPolicy`: which pages may talk to an endpoint. Browsers name a page's origin in the header `Origin`. One
//! function decides for handshakes, HTTP calls, event streams, tickets and pages, before any credential is read.

use std::collections::HashSet;

use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::header;

use crate::config::allowed_origins::AllowedOrigins;
use crate::config::endpoint::EndpointConfig;
use crate::config::http::HttpConfig;
use crate::config::origin::WebOrigin;
use crate::http::problem::Problem;

/// The most characters of a malformed origin in an error.
const MAX_SHOWN: usize = 100;
/// How a browser says where a request comes from: same-origin, same-site, cross-site, or none for a person.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The pages that may talk to one endpoint.
#[derive(Clone, Debug, Default)]
pub struct OriginPolicy {
    allowed: HashSet<WebOrigin>,
    allows_all: bool,
    allows_loopback: bool,
    /// The key that lists the pages, for errors.
    key: &'static str,
    /// The name of the cookie that may hold a token; `None` if cookies are not read.
    pub cookie: Option<Box<str>>,
    /// Whether pages may use cookies here at all.
    pub accepts_cookies: bool,
}

/// Where a request comes from, after the decision that it may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestOrigin {
    /// The request has no `Origin`: it comes from a program, or is one for which browsers send none.
    Absent,
    /// The page of this origin.
    Page(WebOrigin),
}

impl RequestOrigin {
    /// The origin of the page.
    pub fn page(&self) -> Option<&WebOrigin> {
        match self {
            Self::Absent => None,
            Self::Page(origin) => Some(origin),
        }
    }
}

/// The sender of a request: a page or a program that may talk to the endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sender {
    pub origin: RequestOrigin,
    site: FetchSite,
}

/// What a browser says about the page (Fetch Metadata, `Sec-Fetch-Site`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FetchSite {
    /// It has the origin of this node itself.
    SameOrigin,
    /// It belongs to another site; or the header occurs twice.
    CrossSite,
    /// It belongs to the same site, a person has made the request, or the browser says nothing.
    Unknown,
}

impl FetchSite {
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(SEC_FETCH_SITE).iter();
        match (values.next().map(HeaderValue::as_bytes), values.next()) {
            (Some(_), Some(_)) | (Some(b"cross-site"), None) => Self::CrossSite,
            (Some(b"same-origin"), None) => Self::SameOrigin,
            (Some(_) | None, _) => Self::Unknown,
        }
    }
}

impl Sender {
    /// Whether the browser says that the page has the origin of this node itself.
    pub fn is_same_origin(&self) -> bool {
        self.site == FetchSite::SameOrigin
    }

    /// Decides whether the cookie of a request counts: browsers add cookies to requests of any page.
    pub fn check_cookie(&self) -> Result<(), Problem> {
        match (&self.origin, self.site) {
            (_, FetchSite::CrossSite) => {
                let detail = "a page of another site may not use this site's cookie: send a token in its place, or \
                              serve the page and this node under one site";
                Err(Problem::origin_not_allowed(detail).with_reason("cross_site_cookie"))
            }
            (RequestOrigin::Page(_), _) | (RequestOrigin::Absent, FetchSite::SameOrigin) => Ok(()),
            (RequestOrigin::Absent, FetchSite::Unknown) => {
                let detail = "a cookie needs the header `Origin`, or `Sec-Fetch-Site: same-origin`, as browsers send \
                              them: send the token in `Authorization` instead";
                Err(Problem::origin_not_allowed(detail).with_reason("cookie_without_origin"))
            }
        }
    }
}

impl OriginPolicy {
    /// The policy of an endpoint. `cookie` is `auth.cookie`, which may be empty.
    pub fn new(http: &HttpConfig, endpoint: &EndpointConfig, cookie: &str) -> Self {
        let (listed, allows_all, key) = match &endpoint.allowed_origins {
            None => (&http.allowed_origins[..], false, "http.allowed_origins"),
            Some(AllowedOrigins::Listed(listed)) => (&listed[..], false, "allowed_origins of this endpoint"),
            Some(AllowedOrigins::Any) => (&[][..], true, "allowed_origins of this endpoint"),
        };
        let allowed = listed.iter().chain(&http.public_url).cloned().collect();
        let accepts_cookies = endpoint.cookie && !allows_all;
        let cookie = Some(cookie).filter(|cookie| accepts_cookies && !cookie.is_empty());
        let allows_loopback = http.allows_loopback_origins;
        Self { allowed, allows_all, allows_loopback, key, cookie: cookie.map(Box::from), accepts_cookies }
    }

    /// Whether every page may connect.
    pub fn allows_all(&self) -> bool {
        self.allows_all
    }

    /// Decides whether the page that sends a request may talk to this endpoint. Several `Origin` headers, or a value
    /// that is not the origin of a page, are never allowed.
    pub fn decide(&self, headers: &HeaderMap) -> Result<Sender, Problem> {
        let site = FetchSite::of(headers);
        let mut values = headers.get_all(header::ORIGIN).iter();
        let Some(value) = values.next() else { return Ok(Sender { origin: RequestOrigin::Absent, site }) };
        if values.next().is_some() {
            let detail = "the header `Origin` occurs twice: send it once, as browsers do";
            return Err(Problem::origin_not_allowed(detail));
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        let origin = WebOrigin::parse(&text).map_err(|error| {
            let (shown, words) = (shown(&text), error.words());
            let fix = "serve the page over http:// or https://, and list its origin";
            Problem::origin_not_allowed(format!(
                "the header `Origin` ({shown}) {words}: {fix} in {}",
                self.key
            ))
        })?;
        if self.allows(&origin) {
            return Ok(Sender { origin: RequestOrigin::Page(origin), site });
        }
        Err(Problem::origin_not_allowed(format!(
            "pages of {origin} may not connect here: add this origin to {}, or set http.public_url if it is the \
             address of this node",
            self.key
        )))
    }

    fn allows(&self, origin: &WebOrigin) -> bool {
        self.allows_all || self.allowed.contains(origin) || self.allows_loopback && origin.is_loopback()
    }
}

/// The beginning of a text, with everything but printable ASCII escaped.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_default).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests;
