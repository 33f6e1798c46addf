//! Tests of evaluating handshakes, before the client is identified and after.

use std::net::SocketAddr;

use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::Version;

use super::*;
use crate::auth::Authenticator;
use crate::auth::policy::Policy;
use crate::config::auth::AuthConfig;
use crate::config::endpoint::access::AccessConfig;
use crate::http::origin::OriginPolicy;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::native;
use tidegate_vocabulary::compile::compile;

const PLAIN: [(&str, &str); 4] = [
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn policy() -> Policy {
    let authenticator = Authenticator::new(AuthConfig::default(), Vec::new()).unwrap();
    authenticator.policy(&AccessConfig::default(), "endpoint[0]").unwrap()
}

fn own_protocol() -> Endpoint {
    Endpoint::built_in("/ws".to_owned(), Vocabulary::Native, policy(), OriginPolicy::default())
}

/// An endpoint whose path has a user, and which needs a credential in the handshake.
fn of_a_user() -> Endpoint {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vocabularies/financegpt.toml");
    let vocabulary = compile(&std::fs::read_to_string(path).unwrap()).unwrap().vocabulary;
    Endpoint::from_file(VocabularyId(1), Arc::new(vocabulary), policy(), OriginPolicy::default())
}

fn evaluate(
    endpoint: &Endpoint,
    (path, query): (&str, Option<&str>),
    lines: &[(&str, &str)],
) -> Result<ValidHandshake, Problem> {
    let lines = PLAIN.iter().chain(lines);
    let headers: HeaderMap = lines
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect();
    let (method, version) = (&Method::GET, Version::HTTP_11);
    let (headers, is_first) = (&headers, true);
    let peer = SocketAddr::from(([192, 0, 2, 1], 4711)).into();
    let handshake_request = HandshakeRequest { method, version, path, query, headers, peer, is_first };
    ValidHandshake::evaluate(endpoint, Compression::Agreed, &handshake_request)
}

fn credential(handshake: &ValidHandshake) -> Option<&str> {
    handshake.credential.as_ref().map(|presented| presented.secret.expose())
}

fn refused(lines: &[(&str, &str)]) -> (u16, &'static str) {
    let problem = evaluate(&own_protocol(), ("/ws", None), lines).unwrap_err();
    (problem.status.as_u16(), problem.code)
}

#[test]
fn a_valid_handshake_is_accepted_with_the_negotiated_compression() {
    let offers = [
        ("sec-websocket-protocol", native::SUBPROTOCOL),
        ("sec-websocket-extensions", "permessage-deflate; server_max_window_bits=12"),
    ];
    let accepted = evaluate(&own_protocol(), ("/ws", None), &offers).unwrap();
    assert_eq!((credential(&accepted), accepted.binding().is_none()), (None, true));
    let accepted = accepted.authorize(None, None).unwrap();
    assert_eq!(accepted.encoding, Encoding::deflated(12));
    let headers = accepted.answer.headers();
    assert_eq!(accepted.answer.status().as_u16(), 101);
    // RFC 6455 §1.3 has this pair of key and accept value.
    assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn the_first_error_decides() {
    let (twice, protocol, extension) = (
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ("sec-websocket-protocol", "unknown"),
        ("sec-websocket-extensions", "="),
    );
    assert_eq!(refused(&[("upgrade", "h2c"), twice[0], twice[1]]), (426, "upgrade_required"));
    assert_eq!(refused(&[twice[0], twice[1], protocol]), (400, "bad_credential"));
    assert_eq!(refused(&[protocol, extension]), (400, "unknown_subprotocol"));
    assert_eq!(refused(&[extension]), (400, "bad_extensions"));
}

#[test]
fn a_credential_in_a_header_takes_precedence_over_one_in_the_query() {
    let endpoint = of_a_user();
    let target = ("/ws/alice", Some("token=in-query"));
    let in_query = evaluate(&endpoint, target, &[]).unwrap();
    assert_eq!(credential(&in_query), Some("in-query"));
    let in_header = evaluate(&endpoint, target, &[("authorization", "Bearer in-header")]).unwrap();
    assert_eq!(credential(&in_header), Some("in-header"));
}

#[test]
fn the_path_permits_only_its_own_user() {
    let endpoint = of_a_user();
    let status = |user: Option<&str>| {
        let identity = user.map(|user| Arc::new(Identity { user: user.into(), ..Identity::default() }));
        let accepted = evaluate(&endpoint, ("/ws/alice", None), &[]).unwrap().authorize(identity, None);
        accepted.map(|_| 101).unwrap_or_else(|problem| problem.status.as_u16())
    };
    assert_eq!([Some("alice"), Some("bob"), None].map(status), [101, 403, 401]);
}
