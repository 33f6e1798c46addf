//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1): negotiates permessage-deflate (RFC 7692).

use tidegate_protocol::deflate::MAX_WINDOW_BITS;
use tidegate_protocol::deflate::MIN_WINDOW_BITS;
use tidegate_protocol::frame::Encoding;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;

use crate::http::problem::Problem;

/// Whether offers of permessage-deflate are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The first acceptable offer is agreed to.
    Agreed,
    /// All offers are declined.
    Declined,
}

/// The offer that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The client's `server_max_window_bits`, if it sent one: 8 to 15.
    window_bits: Option<u8>,
}

impl Agreed {
    /// The encoding of messages to this client.
    pub fn encoding(self) -> Encoding {
        Encoding::deflated(self.window_bits.unwrap_or(MAX_WINDOW_BITS))
    }

    /// The header of the response. Neither side keeps a compression context (RFC 7692 §7.1.1): then one deflated
    /// publication fits all clients, and no connection needs a window.
    pub fn answer(self) -> Option<HeaderValue> {
        let window =
            self.window_bits.map(|bits| format!("; server_max_window_bits={bits}")).unwrap_or_default();
        let answer =
            format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{window}");
        HeaderValue::try_from(answer).ok()
    }
}

/// RFC 7692 §5: offers come in the client's order of preference, so the first acceptable one is accepted. RFC 6455
/// §9.1: a header that is not a list of extensions fails the handshake.
pub fn negotiate(headers: &HeaderMap, compression: Compression) -> Result<Option<Agreed>, Problem> {
    if compression == Compression::Declined {
        return Ok(None);
    }
    let mut agreed = None;
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let offers = value.to_str().ok().and_then(offers).ok_or_else(malformed)?;
        agreed = agreed.or_else(|| offers.iter().find_map(accept));
    }
    Ok(agreed)
}

fn malformed() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_extensions",
        "`Sec-WebSocket-Extensions` is not a valid list of extensions: see RFC 6455, section 9.1",
    )
}

/// One offered extension and its parameters, in the order of the header.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    name: String,
    parameters: Vec<(String, Option<String>)>,
}

/// RFC 7692 §7: an offer with an unknown parameter, an invalid value or a repeated parameter is declined.
fn accept(offer: &Offer) -> Option<Agreed> {
    if offer.name != "permessage-deflate" {
        return None;
    }
    let mut window_bits = None;
    for (at, (name, value)) in offer.parameters.iter().enumerate() {
        if offer.parameters[..at].iter().any(|(earlier, _)| earlier == name) {
            return None;
        }
        match (name.as_str(), value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(bits)) => drop(window(bits)?),
            // RFC 7692 §7.1.2.1: the server must use a window of this size or a smaller one.
            ("server_max_window_bits", Some(bits)) => window_bits = Some(window(bits)?),
            _ => return None,
        }
    }
    Some(Agreed { window_bits })
}

/// RFC 7692 §7.1.2: the value is a decimal integer from 8 to 15 without leading zeros.
fn window(bits: &str) -> Option<u8> {
    let fine = !bits.starts_with('0') && bits.bytes().all(|byte| byte.is_ascii_digit());
    bits.parse().ok().filter(|bits| fine && (MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(bits))
}

/// All offers in one header line; `None` if it is not a list of extensions. RFC 9110 §5.6.1.2: a list may have empty
/// elements.
fn offers(value: &str) -> Option<Vec<Offer>> {
    let mut rest = Rest(value);
    let mut offers = Vec::new();
    loop {
        rest.skip_blanks();
        if rest.0.is_empty() {
            return Some(offers);
        }
        if rest.take(',') {
            continue;
        }
        offers.push(Offer { name: rest.token()?, parameters: rest.parameters()? });
        if !rest.take(',') && !rest.0.is_empty() {
            return None;
        }
    }
}

/// The part of a header that is not parsed yet.
struct Rest<'h>(&'h str);

impl Rest<'_> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// Consumes a delimiter and the blanks around it, if it comes next.
    fn take(&mut self, delimiter: char) -> bool {
        self.skip_blanks();
        let Some(rest) = self.0.strip_prefix(delimiter) else {
            return false;
        };
        self.0 = rest;
        self.skip_blanks();
        true
    }

    fn token(&mut self) -> Option<String> {
        let end = self.0.find(|letter| !is_token(letter)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then(|| token.to_owned())
    }

    fn parameters(&mut self) -> Option<Vec<(String, Option<String>)>> {
        let mut parameters = Vec::new();
        while self.take(';') {
            let name = self.token()?;
            let value = if self.take('=') { Some(self.value()?) } else { None };
            parameters.push((name, value));
        }
        Some(parameters)
    }

    /// A token, or a quoted string whose content is one (RFC 6455 §9.1).
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return self.token();
        };
        let mut value = String::new();
        let mut letters = quoted.chars();
        loop {
            let letter = match letters.next()? {
                '"' if value.is_empty() => return None,
                '"' => break,
                '\\' => letters.next()?,
                letter => letter,
            };
            if !is_token(letter) {
                return None;
            }
            value.push(letter);
        }
        self.0 = letters.as_str();
        Some(value)
    }
}

/// The characters of a token (RFC 9110 §5.6.2).
fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

#[cfg(test)]
mod tests;
