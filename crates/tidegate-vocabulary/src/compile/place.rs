//! Place: what may be known where a template is.

use crate::placeholder::Scope;
use crate::placeholder::Source;

/// Where a template is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplatePlace {
    /// Before any message: greeting, ping, `on_connect`, the right sides of `require`.
    Session,
    /// While a message of the client is handled.
    Message,
    /// The answer to a request.
    Reply,
    /// What a client hears when it is refused.
    Refusal,
    /// A publication.
    Deliver,
    /// What is said of a channel.
    OfChannel,
    /// What is said when a session comes to its end.
    Ending,
    /// What an HTTP call asks for: `msg` is its body.
    Call,
    /// What it is answered.
    Called,
}

impl TemplatePlace {
    /// Why a placeholder cannot be here, and what to write; `None` if it can.
    pub(super) fn refuses(self, name: &str, source: &Source) -> Option<(String, String)> {
        let scope = source.scope();
        if matches!(self, Self::Deliver | Self::OfChannel)
            && let Source::Variable(variable) = source
        {
            return Some((
                format!("{{var.{variable}}} may change while a channel is held"),
                format!("put it into keep, and write {{sub.{variable}}}"),
            ));
        }
        if self == Self::Deliver && *source == Source::Now {
            return Some(("{now} is the same as {time} here".to_owned(), "write {time}".to_owned()));
        }
        if *source == Source::Item {
            let problem = "{item} is an element of each, for which channels are named".to_owned();
            return Some((problem, "write it in channel only".to_owned()));
        }
        if self.knows(scope, source) {
            return None;
        }
        Some((format!("{{{name}}} is known {}, not {}", when(scope), self.when()), self.instead(scope)))
    }

    fn knows(self, scope: Scope, source: &Source) -> bool {
        match scope {
            Scope::Session if matches!(self, Self::Call | Self::Called) => {
                !matches!(source, Source::Variable(_))
            }
            Scope::Session => true,
            // Gaps are written by outboxes, which know no time of day.
            Scope::Always => self != Self::OfChannel,
            Scope::Message => {
                matches!(self, Self::Message | Self::Reply | Self::Refusal | Self::Call | Self::Called)
            }
            Scope::Reply => matches!(self, Self::Reply | Self::Called),
            Scope::Subscription => matches!(self, Self::Deliver | Self::OfChannel),
            Scope::Publication => self == Self::Deliver || (self == Self::Called && *source == Source::Data),
            Scope::Call => self == Self::Called,
            Scope::Outcome => match self {
                Self::Refusal => matches!(source, Source::Code | Source::Words | Source::Channel),
                Self::OfChannel => matches!(
                    source,
                    Source::Channel
                        | Source::Cause
                        | Source::Dropped
                        | Source::Since
                        | Source::Code
                        | Source::Words
                ),
                Self::Ending => matches!(
                    source,
                    Source::ExpiresIn | Source::CloseCode | Source::Reason | Source::RetryAfter
                ),
                Self::Session | Self::Message | Self::Reply | Self::Deliver | Self::Call | Self::Called => {
                    false
                }
            },
        }
    }

    fn when(self) -> &'static str {
        match self {
            Self::Session => "before the client has said anything",
            Self::Message => "when a client's message is read",
            Self::Reply => "when a request is answered",
            Self::Refusal => "when a client is refused",
            Self::Deliver => "when something is published",
            Self::OfChannel => "when something is said of a channel",
            Self::Ending => "when a session ends",
            Self::Call => "when an HTTP call comes",
            Self::Called => "when an HTTP call is answered",
        }
    }

    fn instead(self, scope: Scope) -> String {
        let help = match (self, scope) {
            (Self::Message | Self::Reply | Self::Refusal, Scope::Publication) => {
                "use {msg.…}, or move it to [[deliver]]"
            }
            (Self::Deliver | Self::OfChannel, Scope::Message) => {
                "put it into keep of the rule that subscribes, and write {sub.…}"
            }
            (Self::Deliver, Scope::Reply) => "use {data.…}",
            (_, Scope::Call) => "only [[http]] has it",
            _ => "use what is known there",
        };
        help.to_owned()
    }
}

fn when(scope: Scope) -> &'static str {
    match scope {
        Scope::Always => "when a message is written for one client",
        Scope::Session => "always",
        Scope::Message => "when a client's message is read",
        Scope::Subscription => "while a channel is held",
        Scope::Publication => "when something is published",
        Scope::Reply => "when a request is answered",
        Scope::Outcome => "when it has happened",
        Scope::Call => "when an HTTP call is answered",
    }
}
