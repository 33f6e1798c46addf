//! `PresentedCredential`: the credential of a request, and how the request carries it.
//!
//! What a page sends itself comes before what its browser adds: the header `Authorization`, the subprotocol, `?ticket=`,
//! the vocabulary's query parameter, and last the cookie.

use tidegate_protocol::url;
use tidegate_vocabulary::Vocabulary;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;

use crate::auth::credential::Credentials;
use crate::config::secret::Secret;
use crate::http::authorization::authorization;
use crate::http::authorization::credentials;
use crate::http::cookie;
use crate::http::endpoint::Endpoint;
use crate::http::origin::OriginPolicy;
use crate::http::origin::Sender;
use crate::http::problem::Problem;

/// The query parameter with a ticket.
const TICKET: &str = "ticket";

/// The credential of a request. It is not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresentedCredential {
    pub carrier: Carrier,
    pub secret: Secret,
}

/// How a request carries its credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// A header or the query: the writer of the request has the token or API key.
    Explicit,
    /// A ticket in the query, in place of a token.
    Ticket,
    /// A cookie, which a browser adds to requests of any page.
    Cookie,
}

impl PresentedCredential {
    fn new(carrier: Carrier, secret: impl Into<String>) -> Self {
        Self { carrier, secret: Secret::new(secret) }
    }

    /// The credential in the headers, without cookies.
    pub fn in_headers(credentials: &Credentials) -> Option<Self> {
        credentials.token().map(|token| Self::new(Carrier::Explicit, token))
    }

    /// The credential of a request that is not a connect: the header `Authorization`, or a cookie.
    pub fn in_request(
        policy: &OriginPolicy,
        sender: &Sender,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, Problem> {
        let authorization = authorization(headers)?;
        match Self::in_headers(&credentials(authorization, std::iter::empty(), &[])?) {
            Some(explicit) => Ok(Some(explicit)),
            None => Self::in_cookie(policy, sender, headers),
        }
    }

    /// The ticket in the query of a connect, unless the vocabulary itself reads a parameter of that name.
    pub fn ticket_in_query(vocabulary: Option<&Vocabulary>, query: Option<&str>) -> Option<Self> {
        if let Some(Vocabulary::Described(binding)) = vocabulary
            && binding.query.get(TICKET).is_some()
        {
            return None;
        }
        let ticket = url::query_value(query?, TICKET).filter(|ticket| !ticket.is_empty())?;
        Some(Self::new(Carrier::Ticket, ticket))
    }

    /// The token or API key in the query, if the vocabulary allows one there.
    pub fn token_in_query(endpoint: &Endpoint, vocabulary: &Vocabulary, query: Option<&str>) -> Option<Self> {
        let token = endpoint.credential_in_query(vocabulary, query)?;
        Some(Self::new(Carrier::Explicit, token))
    }

    /// The token in the endpoint's cookie, if the page may use it. A policy decides about a `Sender` before this.
    pub fn in_cookie(
        policy: &OriginPolicy,
        sender: &Sender,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, Problem> {
        let is_present = |name: &&str| cookie::is_present(headers, name);
        let Some(name) = policy.cookie.as_deref().filter(is_present) else { return Ok(None) };
        sender.check_cookie()?;
        Ok(cookie::value(headers, name)?.map(|token| Self::new(Carrier::Cookie, token)))
    }

    /// With a cookie, a call that changes something must have a body that no HTML form can send (adm-02).
    pub fn check_content_type(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if self.carrier == Carrier::Cookie { check_json(method, headers) } else { Ok(()) }
    }
}

/// Checks that the body of a call with a cookie is JSON, unless the method changes nothing.
pub fn check_json(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if [Method::GET, Method::HEAD].contains(method) || is_json(headers) {
        return Ok(());
    }
    let detail =
        "a call with a cookie must be one that no HTML form can send: set `Content-Type: application/json`";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content_type", detail))
}

/// Whether the body of a request is JSON, by its `Content-Type`.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
