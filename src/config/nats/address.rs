//! Parses the address of a NATS server. Scheme and port are optional, and the address may contain a login.

use std::net::Ipv6Addr;

use tidegate_document::diagnostic::ValueError;
use tidegate_protocol::url;

use crate::config::nats::login::NatsLogin;
use crate::config::secret::Secret;

/// Returns the address with scheme and port only, and the login that it contained.
pub(in crate::config) fn parse(text: &str) -> Result<(String, Option<NatsLogin>), ValueError> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    if !["nats", "tls"].contains(&scheme) {
        return Err(wrong("has a scheme other than nats:// and tls://"));
    }
    let (login, host_and_port) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(parse_login(login)?), rest),
        None => (None, rest),
    };
    let host_and_port = host_and_port.strip_suffix('/').unwrap_or(host_and_port);
    let (host, port) = split_port(host_and_port)?;
    Ok((format!("{scheme}://{host}:{port}"), login))
}

/// Whether there is a login in the text, or what could be one if the host was forgotten: `user:password`.
pub(in crate::config) fn may_have_login(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('@')
        || !rest.starts_with('[') && rest.split_once(':').is_some_and(|(_, port)| !is_port(port))
}

fn split_port(text: &str) -> Result<(&str, u16), ValueError> {
    let end = if text.starts_with('[') { text.find(']').map_or(0, |end| end + 1) } else { text.len() };
    let colon = text[..end].find(':').filter(|_| !text.starts_with('[')).unwrap_or(end);
    let (host, port) = text.split_at(colon);
    let ip6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match ip6 {
        Some(ip6) => ip6.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    if !valid {
        return Err(wrong("has no valid host"));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => Some(4222),
        None => None,
        Some(port) => port.parse().ok().filter(|port| *port != 0),
    };
    port.map(|port| (host, port)).ok_or_else(|| wrong("has no port from 1 to 65535 after its host"))
}

/// Parses `user:password` or a token. Special characters are percent-encoded, such as `%40` for `@`.
fn parse_login(text: &str) -> Result<NatsLogin, ValueError> {
    let decode =
        |part| url::decode(part).ok_or_else(|| wrong("has a login with an invalid percent-encoding"));
    match text.split_once(':') {
        None if text.is_empty() => Err(wrong("has no login before its @")),
        None => Ok(NatsLogin::Token(Secret::new(decode(text)?))),
        Some((user, password)) if !user.is_empty() && !password.is_empty() => {
            Ok(NatsLogin::Password { user: decode(user)?, password: Secret::new(decode(password)?) })
        }
        Some(_) => Err(wrong("has a user without a password, or a password without a user")),
    }
}

fn wrong(message: &str) -> ValueError {
    ValueError::new(
        message,
        "write an address such as \"nats://127.0.0.1:4222\", or \"tls://nats.example.com:4222\" for TLS",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<NatsLogin> {
        Some(NatsLogin::Password { user: user.to_owned(), password: Secret::new(password.to_owned()) })
    }

    #[test]
    fn addresses_may_omit_scheme_and_port_and_contain_a_login() {
        let token = Some(NatsLogin::Token(Secret::new("t0ken".to_owned())));
        let cases = [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222", None),
            ("nats://127.0.0.1:4222/", "nats://127.0.0.1:4222", None),
            (" localhost ", "nats://localhost:4222", None),
            ("nats_1.internal:4333", "nats://nats_1.internal:4333", None),
            ("tls://nats.example.com", "tls://nats.example.com:4222", None),
            ("nats://[::1]", "nats://[::1]:4222", None),
            ("[2001:db8::1]:4333", "nats://[2001:db8::1]:4333", None),
            ("nats://t0ken@host", "nats://host:4222", token),
            ("nats://ann:s3cret@host:1", "nats://host:1", password("ann", "s3cret")),
            ("ann:s3:c/r@t@host", "nats://host:4222", password("ann", "s3:c/r@t")),
            ("nats://a%40b:%25%C3%A9@host", "nats://host:4222", password("a@b", "%é")),
        ];
        for (text, url, login) in cases {
            let (found, found_login) = parse(text).map_err(|wrong| wrong.message).expect(text);
            assert_eq!((found.as_str(), found_login), (url, login), "{text}");
        }
    }

    #[test]
    fn a_password_is_suspected_without_a_host_too() {
        for text in ["nats://t0ken@host", "nats://ann:s3cret", "ann:s3cret", "ann:s3/cret", "@"] {
            assert!(may_have_login(text), "{text}");
        }
        for text in ["", "nats://ho st", "nats://host:65536", "host:", "http://host", "[::1", "nats://[zz]:1"]
        {
            assert!(!may_have_login(text), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        let cases = [
            "",
            "nats://",
            "http://host",
            "ws://host",
            "nats://ho st",
            "nats://host:",
            "nats://host:0",
            "host:65536",
            "host:port",
            "::1",
            "[::1",
            "[::1]4222",
            "[zz]:1",
            "nats://@host",
            "nats://:p@host",
            "nats://u:@host",
            "u:%zz@host",
            "u:%4@host",
            "u:%é@host",
            "u:%FF@host",
            "host/path",
            "host?query",
            "nats://host:1:2",
        ];
        for text in cases {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
