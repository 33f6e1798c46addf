//! Classifies the `-ERR` messages of a server.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerError {
    /// The user may not subscribe to this subject. The server names the `sid` only when it revokes a subscription.
    SubscribeDenied { subject: String, sid: Option<u64> },
    /// The user may not publish to this subject; `None` if it cannot be parsed.
    PublishDenied(Option<String>),
    /// Some subscription was rejected; the server does not say which.
    SubscribeFailed,
    /// The server closes the connection.
    Fatal,
}

impl ServerError {
    pub(super) fn parse(message: &str) -> Self {
        let lower = message.to_ascii_lowercase();
        if lower.starts_with("permissions violation for subscription") {
            return denied(message).unwrap_or(Self::SubscribeFailed);
        }
        if lower.starts_with("permissions violation for publish") {
            return Self::PublishDenied(quoted(message).map(|(subject, _)| subject));
        }
        let subscribe_errors = ["permissions violation", "invalid subject", "maximum subscriptions exceeded"];
        if subscribe_errors.iter().any(|start| lower.starts_with(start)) {
            Self::SubscribeFailed
        } else {
            Self::Fatal
        }
    }
}

/// Parses `Permissions Violation for Subscription to "a.b"`, sometimes followed by `(sid "7")` or a queue.
fn denied(message: &str) -> Option<ServerError> {
    let (subject, rest) = quoted(message)?;
    let sid = rest.split_once("(sid \"").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
    Some(ServerError::SubscribeDenied { subject, sid })
}

/// The first quoted text, unescaped, and what follows it. Inside quotes a backslash precedes `"` and `\`.
fn quoted(message: &str) -> Option<(String, &str)> {
    let (_, rest) = message.split_once('"')?;
    let (mut text, mut chars) = (String::new(), rest.chars());
    loop {
        match chars.next()? {
            '"' => return Some((text, chars.as_str())),
            '\\' => text.push(chars.next().filter(|sign| ['"', '\\'].contains(sign))?),
            sign => text.push(sign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_errors_are_classified() {
        let denied = |subject: &str, sid| ServerError::SubscribeDenied { subject: subject.to_owned(), sid };
        for (message, expected) in [
            ("Permissions Violation for Subscription to \"a.>\"", denied("a.>", None)),
            ("Permissions Violation for Subscription to \"a\" (sid \"7\")", denied("a", Some(7))),
            ("Permissions Violation for Subscription to \"a\" using queue \"7\"", denied("a", None)),
            ("permissions violation for subscription to \"a\\\"b\\\\\"", denied("a\"b\\", None)),
            ("Permissions Violation for Subscription to \"a\\u0007\"", ServerError::SubscribeFailed),
            ("Permissions Violation for Subscription to nothing", ServerError::SubscribeFailed),
            ("Permissions Violation for Publish to \"a\"", ServerError::PublishDenied(Some("a".to_owned()))),
            ("Permissions Violation for Publish to \"a\\u0007\"", ServerError::PublishDenied(None)),
            ("Invalid Subject", ServerError::SubscribeFailed),
            ("maximum subscriptions exceeded", ServerError::SubscribeFailed),
            ("Stale Connection", ServerError::Fatal),
            ("Authorization Violation", ServerError::Fatal),
            ("Slow Consumer", ServerError::Fatal),
            ("", ServerError::Fatal),
        ] {
            assert_eq!(ServerError::parse(message), expected, "{message}");
        }
    }
}
