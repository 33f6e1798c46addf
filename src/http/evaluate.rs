//! Judging a handshake: whether the request is a proper one, and whether the client may stay. This reads no clock, waits
//! for nothing and counts nothing.

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
use crate::http::error::Problem;
use crate::http::extensions;
use crate::http::extensions::Agreed;
use crate::http::extensions::Compression;
use crate::http::handshake;

/// A request that is a proper handshake. Who sent it is not known yet.
#[derive(Debug)]
pub struct ProperHandshake {
    answer: Response,
    vocabulary: Vocabulary,
    encoding: Encoding,
    presented: Credentials,
    in_query: Option<String>,
}

/// What a good handshake is answered with, and who came.
#[derive(Debug)]
pub struct Accepted {
    /// The answer.
    pub answer: Response,
    /// What is spoken.
    pub vocabulary: Vocabulary,
    /// How publications are put into bytes for the client.
    pub encoding: Encoding,
    /// Who it is, if a credential came with the handshake or none is needed.
    pub identity: Option<Arc<Identity>>,
}

impl ProperHandshake {
    /// Judges everything but the credential. The first thing that is wrong decides the answer.
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
        let vocabulary = endpoint.enter(handshake_request)?;
        let presented = presented(authorization, protocols.into_iter(), &vocabulary.subprotocols())?;
        let subprotocol = handshake::subprotocol(&presented.subprotocols, &vocabulary)?;
        let agreed = extensions::negotiate(headers, compression)?;
        let answer = handshake::accept(key, subprotocol, agreed.and_then(Agreed::answer));
        let encoding = agreed.map_or(Encoding::JSON, Agreed::encoding);
        let in_query = match presented.token() {
            Some(_) => None,
            None => endpoint.credential_in_query(&vocabulary, handshake_request.query),
        };
        Ok(Self { answer, vocabulary, encoding, presented, in_query })
    }

    /// The token or key that came with it: in a header before one in the query.
    pub fn credential(&self) -> Option<&str> {
        self.presented.token().or(self.in_query.as_deref())
    }

    /// What its path and query say, where the vocabulary is one of a file.
    pub fn binding(&self) -> Option<&Binding> {
        if let Vocabulary::Described(binding) = &self.vocabulary { Some(binding) } else { None }
    }

    /// Accepts it from this client, if the client may be here.
    pub fn welcome(self, identity: Option<Arc<Identity>>) -> Result<Accepted, Problem> {
        let Self { answer, vocabulary, encoding, .. } = self;
        match &identity {
            Some(identity) if !endpoint::permits(&vocabulary, identity) => {
                let detail = "this path is another user's: the credential must be that user's";
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
            }
            None if !endpoint::can_wait(&vocabulary) => Err(Problem::unauthorized(ways_in(&vocabulary))),
            Some(_) | None => Ok(Accepted { answer, vocabulary, encoding, identity }),
        }
    }
}

/// The header `Authorization`, if it is there once.
pub fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = values.next().map(header::HeaderValue::to_str);
    if values.next().is_some() {
        let detail = "the header `Authorization` stands there twice: send one credential";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail));
    }
    authorization.transpose().map_err(|_| unreadable("Authorization"))
}

/// The credential in the headers of a request, and the subprotocols next to it.
pub fn presented<'h>(
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

/// How a client may show a credential in a handshake with this vocabulary.
fn ways_in(vocabulary: &Vocabulary) -> String {
    let mut ways = "this endpoint needs a credential: the header `Authorization: Bearer <token>`".to_owned();
    if let Some(name) = vocabulary.subprotocols().first() {
        ways += &format!(
            "; in a browser the subprotocols [\"{name}\", \"base64url.bearer.<token>\"], the token in base64url without \
             padding"
        );
    }
    if let Some(parameter) = endpoint::query_of_credential(vocabulary) {
        ways += &format!("; or the parameter `?{parameter}=<token>` of the address");
    }
    ways
}

fn unreadable(name: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_header",
        format!("`{name}` has characters that no header may have"),
    )
}

#[cfg(test)]
mod tests;
