//! Refusal: what a server means by `-ERR`.

/// What it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection may not subscribe to this; the subscription is named only where it was taken back.
    Denied { subject: String, sid: Option<u64> },
    /// The connection may not publish to this, where it can be read.
    Unpublished(Option<String>),
    /// Some subscription is not made, and no one says which.
    Unnamed,
    /// The server ends the connection.
    Final,
}

impl Refusal {
    pub(super) fn read(words: &str) -> Self {
        let lower = words.to_ascii_lowercase();
        if lower.starts_with("permissions violation for subscription") {
            return denied(words).unwrap_or(Self::Unnamed);
        }
        if lower.starts_with("permissions violation for publish") {
            return Self::Unpublished(quoted(words).map(|(subject, _)| subject));
        }
        let is_of_one = ["permissions violation", "invalid subject", "maximum subscriptions exceeded"];
        if is_of_one.iter().any(|of_one| lower.starts_with(of_one)) { Self::Unnamed } else { Self::Final }
    }
}

/// `Permissions Violation for Subscription to "a.b"`, and behind it at times `(sid "7")` or a queue.
fn denied(words: &str) -> Option<Refusal> {
    let (subject, rest) = quoted(words)?;
    let sid = rest.split_once("(sid \"").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
    Some(Refusal::Denied { subject, sid })
}

/// What is quoted first, and what comes behind it. What is no quotation mark by itself has a backslash in front of it.
fn quoted(words: &str) -> Option<(String, &str)> {
    let (_, rest) = words.split_once('"')?;
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
    fn what_a_server_refuses() {
        let denied = |subject: &str, sid| Refusal::Denied { subject: subject.to_owned(), sid };
        for (words, refusal) in [
            ("Permissions Violation for Subscription to \"a.>\"", denied("a.>", None)),
            ("Permissions Violation for Subscription to \"a\" (sid \"7\")", denied("a", Some(7))),
            ("Permissions Violation for Subscription to \"a\" using queue \"7\"", denied("a", None)),
            ("permissions violation for subscription to \"a\\\"b\\\\\"", denied("a\"b\\", None)),
            ("Permissions Violation for Subscription to \"a\\u0007\"", Refusal::Unnamed),
            ("Permissions Violation for Subscription to nothing", Refusal::Unnamed),
            ("Permissions Violation for Publish to \"a\"", Refusal::Unpublished(Some("a".to_owned()))),
            ("Permissions Violation for Publish to \"a\\u0007\"", Refusal::Unpublished(None)),
            ("Invalid Subject", Refusal::Unnamed),
            ("maximum subscriptions exceeded", Refusal::Unnamed),
            ("Stale Connection", Refusal::Final),
            ("Authorization Violation", Refusal::Final),
            ("Slow Consumer", Refusal::Final),
            ("", Refusal::Final),
        ] {
            assert_eq!(Refusal::read(words), refusal, "{words}");
        }
    }
}
