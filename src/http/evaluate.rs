//! Evaluates a handshake: is the request valid, and may this client connect? Pure: no clock, no waiting, no counters.

use std::sync::Arc;

use tidegate_protocol::frame::Encoding;
use tidegate_protocol::identity::Identity;
use tidegate_vocabulary::Vocabulary;
use tidegate_vocabulary::binding::Binding;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::auth::credential;
use crate::auth::credential::CredentialError;
use crate::auth::credential::Credentials;
use crate::http::endpoint;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::extensions;
use crate::http::extensions::Agreed;
use crate::http::extensions::Compression;
use crate::http::handshake;
use crate::http::problem::Problem;

/// A handshake whose request is valid. The client is not authenticated yet.
#[derive(Debug)]
pub struct ValidHandshake {
    answer: Response,
    vocabulary: Vocabulary,
    encoding: Encoding,
    credentials: Credentials,
    in_query: Option<String>,
}

/// An accepted handshake: the response, and what was agreed on.
#[derive(Debug)]
pub struct Accepted {
    pub answer: Response,
    /// The vocabulary of the session.
    pub vocabulary: Vocabulary,
    /// The encoding of messages to the client.
    pub encoding: Encoding,
    /// The client's identity. `None` if the client must still authenticate with a message.
    pub identity: Option<Arc<Identity>>,
}

impl ValidHandshake {
    /// Checks everything except the credential. The first error decides the response.
    pub fn evaluate(
        endpoint: &Endpoint,
        compression: Compression,
        handshake_request: &HandshakeRequest<'_>,
    ) -> Result<Self, Problem> {
        let headers = handshake_request.headers;
        let key = handshake::key(handshake_request.method, handshake_request.version, headers)?;
        let authorization = authorization(headers)?;
        let protocols: Result<Vec<_>, _> =
            headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().map(header::HeaderValue::to_str).collect();
        let protocols = protocols.map_err(|_| unreadable("Sec-WebSocket-Protocol"))?;
        let vocabulary = endpoint.bind(handshake_request)?;
        let credentials = credentials(authorization, protocols.into_iter(), &vocabulary.subprotocols())?;
        let subprotocol = handshake::subprotocol(&credentials.subprotocols, &vocabulary)?;
        let agreed = extensions::negotiate(headers, compression)?;
        let answer = handshake::accept(key, subprotocol, agreed.and_then(Agreed::answer));
        let encoding = agreed.map_or(Encoding::JSON, Agreed::encoding);
        let in_query = match credentials.token() {
            Some(_) => None,
            None => endpoint.credential_in_query(&vocabulary, handshake_request.query),
        };
        Ok(Self { answer, vocabulary, encoding, credentials, in_query })
    }

    /// The token or API key of the request. One in a header takes precedence over one in the query.
    pub fn credential(&self) -> Option<&str> {
        self.credentials.token().or(self.in_query.as_deref())
    }

    /// The parameters of path and query, if the vocabulary is loaded from a file.
    pub fn binding(&self) -> Option<&Binding> {
        if let Vocabulary::Described(binding) = &self.vocabulary { Some(binding) } else { None }
    }

    /// Accepts the handshake if the path permits this identity.
    pub fn authorize(self, identity: Option<Arc<Identity>>) -> Result<Accepted, Problem> {
        let Self { answer, vocabulary, encoding, .. } = self;
        match &identity {
            Some(identity) if !endpoint::permits(&vocabulary, identity) => {
                let detail = "this path belongs to another user: send a credential of that user";
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
            }
            None if !endpoint::can_authenticate_later(&vocabulary) => {
                Err(Problem::unauthorized(credential_help(&vocabulary)))
            }
            Some(_) | None => Ok(Accepted { answer, vocabulary, encoding, identity }),
        }
    }
}

/// The value of the header `Authorization`. RFC 6750 §2: a request has only one credential, so it may occur only once.
pub fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = values.next().map(header::HeaderValue::to_str);
    if values.next().is_some() {
        let detail = "the header `Authorization` occurs twice: send one credential";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail));
    }
    authorization.transpose().map_err(|_| unreadable("Authorization"))
}

/// The credential and the offered subprotocols in the headers of a request. `spoken` are the endpoint's own
/// subprotocols, for error messages.
pub fn credentials<'h>(
    authorization: Option<&str>,
    protocols: impl Iterator<Item = &'h str>,
    spoken: &[&str],
) -> Result<Credentials, Problem> {
    credential::from_handshake(authorization, protocols).map_err(|error| {
        let mut detail = error.to_string();
        if let (CredentialError::OnlyBearerItem, Some(name)) = (error, spoken.first()) {
            detail += &format!(": \"{name}\"");
        }
        Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail)
    })
}

/// Tells a client how to send a credential in a handshake with this vocabulary.
fn credential_help(vocabulary: &Vocabulary) -> String {
    let mut help =
        "this endpoint needs a credential: send the header `Authorization: Bearer <token>`".to_owned();
    if let Some(name) = vocabulary.subprotocols().first() {
        help += &format!(
            "; in a browser, the subprotocols [\"{name}\", \"base64url.bearer.<token>\"], with the token in base64url \
             without padding"
        );
    }
    if let Some(parameter) = endpoint::credential_parameter(vocabulary) {
        help += &format!("; or the query parameter `?{parameter}=<token>`");
    }
    help
}

fn unreadable(name: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_header",
        format!("the header `{name}` has characters that are not allowed there: use visible ASCII"),
    )
}

#[cfg(test)]
mod tests;
