//! Refusal: what a server means by `-ERR`.

/// What it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection may not subscribe to this; the subscription is named only where it was taken back.
    Denied { subject: String, sid: Option<u64> },
    /// Some subscription is not made, and nobody says which.
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
        let is_of_one = ["permissions violation", "invalid subject", "maximum subscriptions exceeded"];
        if is_of_one.iter().any(|of_one| lower.starts_with(of_one)) { Self::Unnamed } else { Self::Final }
    }
}

/// `Permissions Violation for Subscription to "a.b"`, and behind it at times `(sid "7")` or a queue.
fn denied(words: &str) -> Option<Refusal> {
    let (_, rest) = words.split_once('"')?;
    // The subject is quoted: what is no quotation mark by itself has a backslash in front of it.
    let (mut subject, mut chars) = (String::new(), rest.chars());
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => subject.push(chars.next().filter(|sign| ['"', '\\'].contains(sign))?),
            sign => subject.push(sign),
        }
    }
    let sid = chars.as_str().split_once("(sid \"").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
    Some(Refusal::Denied { subject, sid })
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
            ("Permissions Violation for Publish to \"a\"", Refusal::Unnamed),
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
