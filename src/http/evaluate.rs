//! Evaluates a handshake: is the request valid, and may this client connect? Pure: no clock, no waiting, no counters.

use std::sync::Arc;

use tidegate_protocol::frame::Encoding;
use tidegate_protocol::identity::Identity;
use tidegate_vocabulary::Vocabulary;
use tidegate_vocabulary::binding::Binding;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Response;

use crate::http::authorization::authorization;
use crate::http::authorization::credentials;
use crate::http::authorization::unreadable;
use crate::http::endpoint;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::extensions;
use crate::http::extensions::Agreed;
use crate::http::extensions::Compression;
use crate::http::handshake;
use crate::http::origin::Sender;
use crate::http::presented::Carrier;
use crate::http::presented::PresentedCredential;
use crate::http::problem::Problem;
use crate::node::connection_counts::CountedConnection;

/// A handshake whose request is valid. The client is not authenticated yet.
#[derive(Debug)]
pub struct ValidHandshake {
    answer: Response,
    vocabulary: Vocabulary,
    encoding: Encoding,
    /// The page or program that connects.
    pub sender: Sender,
    /// The credential of the request.
    pub credential: Option<PresentedCredential>,
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
    /// Counts for the origin of the page; `None` if that has no limit.
    pub origin: Option<CountedConnection>,
}

impl ValidHandshake {
    /// Checks everything except the credential, first the origin. The first error decides the response.
    pub fn evaluate(
        endpoint: &Endpoint,
        compression: Compression,
        handshake_request: &HandshakeRequest<'_>,
    ) -> Result<Self, Problem> {
        let headers = handshake_request.headers;
        let key = handshake::key(handshake_request.method, handshake_request.version, headers)?;
        let sender = endpoint.origins.decide(headers)?;
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
        let query = handshake_request.query;
        let explicit = PresentedCredential::in_headers(&credentials)
            .or_else(|| PresentedCredential::ticket_in_query(Some(&vocabulary), query))
            .or_else(|| PresentedCredential::token_in_query(endpoint, &vocabulary, query));
        let credential = match explicit {
            Some(explicit) => Some(explicit),
            None => PresentedCredential::in_cookie(&endpoint.origins, &sender, headers)?,
        };
        Ok(Self { answer, vocabulary, encoding, sender, credential })
    }

    /// Whether its credential is a ticket, which connecting uses up.
    pub fn uses_ticket(&self) -> bool {
        self.credential.as_ref().is_some_and(|credential| credential.carrier == Carrier::Ticket)
    }

    /// The parameters of path and query, if the vocabulary is loaded from a file.
    pub fn binding(&self) -> Option<&Binding> {
        if let Vocabulary::Described(binding) = &self.vocabulary { Some(binding) } else { None }
    }

    /// Accepts the handshake if the path permits this identity.
    pub fn authorize(
        self,
        identity: Option<Arc<Identity>>,
        origin: Option<CountedConnection>,
    ) -> Result<Accepted, Problem> {
        let Self { answer, vocabulary, encoding, .. } = self;
        match &identity {
            Some(identity) if !endpoint::permits(&vocabulary, identity) => {
                let detail = "this path belongs to another user: send a credential of that user";
                Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
            }
            None if !endpoint::can_authenticate_later(&vocabulary) => {
                Err(Problem::unauthorized(credential_help(&vocabulary)))
            }
            Some(_) | None => Ok(Accepted { answer, vocabulary, encoding, identity, origin }),
        }
    }
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

#[cfg(test)]
mod tests;
