//! Tests of negotiating permessage-deflate (RFC 7692).

use super::*;

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn offered(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// The response to these headers; `None` without compression, the status if the handshake fails.
fn answered(values: &[&str]) -> Result<Option<String>, StatusCode> {
    let headers = offered(values);
    let agreed = negotiate(&headers, Compression::Agreed).map_err(|problem| problem.status)?;
    assert_eq!(negotiate(&headers, Compression::Declined).map_err(|problem| problem.status), Ok(None));
    let text = |answer: HeaderValue| answer.to_str().map(str::to_owned).ok();
    Ok(agreed.and_then(|agreed| agreed.answer().and_then(text)))
}

/// RFC 7692 §5: the first acceptable offer is accepted. §7.1.1: no side keeps a context. §7.1.2.1: the response repeats
/// the offered `server_max_window_bits`. RFC 9110 §5.6.1.2: empty list elements are ignored.
/// PROTOCOL.md: "The answer is always"
#[test]
fn the_first_acceptable_offer_is_accepted() {
    for offer in [
        "permessage-deflate",
        " permessage-deflate ; client_max_window_bits",
        "permessage-deflate;client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=\"15\"",
        "permessage-deflate; client_max_window_bits=\"1\\0\"",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_max_window_bits\t",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-bzip2; level=9, , permessage-deflate,",
        "permessage-deflate; unknown, permessage-deflate",
        "permessage-deflate; server_max_window_bits=7, permessage-deflate",
        "permessage-deflate, permessage-deflate; server_max_window_bits=9",
    ] {
        assert_eq!(answered(&[offer]), Ok(Some(PLAIN.to_owned())), "{offer}");
    }
    for bits in 8..=15 {
        let expected = format!("{PLAIN}; server_max_window_bits={bits}");
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(answered(&[&offer]), Ok(Some(expected.clone())));
        let offer = format!("permessage-deflate; client_max_window_bits; server_max_window_bits=\"{bits}\"");
        assert_eq!(answered(&[&offer]), Ok(Some(expected)));
    }
}

/// RFC 6455 §9.1: several headers are one list.
#[test]
fn offers_in_several_headers_are_one_list() {
    let first = "permessage-deflate; unknown=1";
    assert_eq!(answered(&[first, "permessage-deflate"]), Ok(Some(PLAIN.to_owned())));
    assert_eq!(
        answered(&["permessage-deflate", "permessage-deflate; =broken"]),
        Err(StatusCode::BAD_REQUEST)
    );
    assert_eq!(answered(&[]), Ok(None));
    assert_eq!(answered(&[""]), Ok(None));
}

/// RFC 7692 §7: an unknown, invalid or repeated parameter declines the offer. §7.1.2: window sizes are 8 to 15, without
/// leading zeros.
#[test]
fn unacceptable_offers_are_declined() {
    for offer in [
        "permessage-bzip2",
        "Permessage-Deflate",
        "deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=\"a\"",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover=true",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=1e1",
        "permessage-deflate; server_max_window_bits=4294967305",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=abc",
    ] {
        assert_eq!(answered(&[offer]), Ok(None), "{offer}");
    }
}

/// RFC 6455 §9.1: a header that is not a list of extensions fails the handshake.
#[test]
fn a_malformed_header_fails_the_handshake() {
    for value in [
        "permessage-deflate;",
        "permessage-deflate; ;",
        "permessage-deflate permessage-deflate",
        "; permessage-deflate",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=\"\"",
        "permessage-deflate; client_max_window_bits=\"9",
        "permessage-deflate; client_max_window_bits=\"9 \"",
        "permessage-deflate; client_max_window_bits=\"9\"9",
        "permessage-deflate; client_max_window_bits=\"9\\",
        "permessage-deflate; a=b=c",
        "permessage-deflate/1",
        "(comment)",
    ] {
        assert_eq!(answered(&[value]), Err(StatusCode::BAD_REQUEST), "{value}");
    }
}

#[test]
fn the_encoding_has_the_negotiated_window() {
    let encoding = |window_bits| Agreed { window_bits }.encoding();
    assert_eq!(encoding(None), Encoding::deflated(15));
    assert_eq!(encoding(Some(9)), Encoding::deflated(9));
}
