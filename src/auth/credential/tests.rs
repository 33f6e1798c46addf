//! Tests of finding the credential in the headers of a handshake.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::CredentialError;
use super::Credentials;
use super::from_handshake;
use crate::config::secret::Secret;

fn item(token: &[u8]) -> String {
    format!("base64url.bearer.{}", URL_SAFE_NO_PAD.encode(token))
}

fn credentials(token: Option<&str>, subprotocols: &[&str]) -> Result<Credentials, CredentialError> {
    Ok(Credentials {
        token: token.map(Secret::new),
        subprotocols: subprotocols.iter().map(|&name| name.to_owned()).collect(),
    })
}

/// RFC 6750 §2.1: the header is `Authorization: Bearer <token>`. RFC 9110 §11.1: the scheme is case-insensitive.
#[test]
fn authorization_header() {
    for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " Bearer a.b.c "] {
        assert_eq!(from_handshake(Some(header), [].into_iter()), credentials(Some("a.b.c"), &[]), "{header}");
    }
    let cases = [
        ("", CredentialError::UnknownScheme),
        ("Basic dTpw", CredentialError::UnknownScheme),
        ("Bearera.b.c", CredentialError::UnknownScheme),
        ("a.b.c", CredentialError::UnknownScheme),
        ("Bearer", CredentialError::MalformedHeader),
        ("Bearer ", CredentialError::MalformedHeader),
        ("Bearer a b", CredentialError::MalformedHeader),
        ("Bearer a\tb", CredentialError::MalformedHeader),
        ("Bearer a\0", CredentialError::MalformedHeader),
        ("Bearer é", CredentialError::MalformedHeader),
    ];
    for (header, error) in cases {
        assert_eq!(from_handshake(Some(header), [].into_iter()), Err(error), "{header:?}");
    }
}

#[test]
fn without_a_credential() {
    assert_eq!(from_handshake(None, [].into_iter()), credentials(None, &[]));
    assert_eq!(from_handshake(None, ["", " , "].into_iter()), credentials(None, &[]));
    assert_eq!(
        from_handshake(None, ["tidegate.v1.json, mcp"].into_iter()),
        credentials(None, &["tidegate.v1.json", "mcp"])
    );
}

#[test]
fn tok_02_the_bearer_item_is_removed() {
    let bearer = item(b"a.b.c");
    let expected = credentials(Some("a.b.c"), &["tidegate.v1.json"]);
    let one_list = format!("tidegate.v1.json, {bearer}");
    let reversed = format!("{bearer},tidegate.v1.json");
    let spaced = format!(" ,\t{bearer} ,, tidegate.v1.json ");
    for header in [&one_list, &reversed, &spaced] {
        assert_eq!(from_handshake(None, [header.as_str()].into_iter()), expected, "{header}");
    }
    assert_eq!(from_handshake(None, ["tidegate.v1.json", &bearer].into_iter()), expected);
    assert_eq!(from_handshake(None, [bearer.as_str(), "tidegate.v1.json"].into_iter()), expected);
}

#[test]
fn tok_02_bad_bearer_items() {
    let padded = format!("base64url.bearer.{}", STANDARD.encode("ab"));
    let standard = format!("base64url.bearer.{}", STANDARD.encode("???"));
    assert!(padded.ends_with('=') && standard.ends_with('/'));
    let cases = [
        (vec![item(b"a"), item(b"b"), "x".to_owned()], CredentialError::SeveralBearerItems),
        (vec![item(b"a"), item(b"a"), "x".to_owned()], CredentialError::SeveralBearerItems),
        (vec![item(b"a"), item(b"b")], CredentialError::SeveralBearerItems),
        (vec![item(b"a")], CredentialError::OnlyBearerItem),
        (vec![format!(", {} ,", item(b"a"))], CredentialError::OnlyBearerItem),
        (vec![item(b""), "x".to_owned()], CredentialError::MalformedItem),
        (vec![padded, "x".to_owned()], CredentialError::MalformedItem),
        (vec![standard, "x".to_owned()], CredentialError::MalformedItem),
        (vec!["base64url.bearer.a b".to_owned(), "x".to_owned()], CredentialError::MalformedItem),
        (vec!["base64url.bearer.a.b.c".to_owned(), "x".to_owned()], CredentialError::MalformedItem),
        (vec![item(b"\xff\xfe"), "x".to_owned()], CredentialError::MalformedItem),
        (vec![item(b"a b"), "x".to_owned()], CredentialError::MalformedItem),
        (vec![item(b"a\r\nb"), "x".to_owned()], CredentialError::MalformedItem),
    ];
    for (headers, error) in cases {
        let as_lines = from_handshake(None, headers.iter().map(String::as_str));
        let as_list = from_handshake(None, [headers.join(", ").as_str()].into_iter());
        assert_eq!((as_lines, as_list), (Err(error), Err(error)), "{headers:?}");
    }
}

#[test]
fn the_header_takes_precedence_over_the_item() {
    let headers = format!("tidegate.v1.json, {}", item(b"from.the.item"));
    let both = from_handshake(Some("Bearer from.the.header"), [headers.as_str()].into_iter());
    assert_eq!(both, credentials(Some("from.the.header"), &["tidegate.v1.json"]));
    let alone = item(b"from.the.item");
    let only_item = from_handshake(Some("Bearer from.the.header"), [alone.as_str()].into_iter());
    assert_eq!(only_item, Err(CredentialError::OnlyBearerItem));
}

#[test]
fn debug_output_hides_the_token() {
    let shown = format!("{:?}", from_handshake(Some("Bearer sentinel"), [].into_iter()).unwrap());
    assert!(!shown.contains("sentinel") && shown.contains("***"), "{shown}");
}
