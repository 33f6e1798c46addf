//! Template place: which placeholders have a value in which template.

use crate::placeholder::Scope;
use crate::placeholder::Source;

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplatePlace {
    /// Rendered without a message of the client: greeting, ping, `on_connect`, right sides of `require`.
    Session,
    /// Rendered while a client's message is handled.
    Message,
    /// The confirmation of a rule with `each` that joins channels.
    Joined,
    /// The answer to a request.
    Reply,
    /// An error.
    Error,
    /// A publication.
    Deliver,
    /// The elements of publications, together.
    Collected,
    /// A notice about a channel.
    ChannelNotice,
    /// A notice about the end of a session.
    SessionEnd,
    /// What an HTTP request does. `{msg}` is its body.
    HttpRequest,
    /// The response to an HTTP request.
    HttpResponse,
}

impl TemplatePlace {
    /// Why a placeholder has no value here, and what to write instead. `None` if it has one.
    pub(super) fn rejects(self, name: &str, source: &Source) -> Option<(String, String)> {
        let scope = source.scope();
        if matches!(self, Self::Deliver | Self::Collected | Self::ChannelNotice)
            && let Source::Variable(variable) = source
        {
            return Some((
                format!("{{var.{variable}}} may change while a client is subscribed"),
                format!("put it into keep, and write {{sub.{variable}}}"),
            ));
        }
        if matches!(self, Self::Deliver | Self::Collected) && *source == Source::Now {
            return Some(("{now} is the same as {time} here".to_owned(), "write {time}".to_owned()));
        }
        if *source == Source::Item {
            let problem = "{item} is an element of each, for which channels are named".to_owned();
            return Some((problem, "write it in channel only".to_owned()));
        }
        if *source == Source::Joined && self != Self::Joined {
            let problem = "{joined} lists the elements of each whose channels are joined".to_owned();
            let help = "write it only in confirm of a rule with each that does subscribe or replace";
            return Some((problem, help.to_owned()));
        }
        if self.allows(scope, source) {
            return None;
        }
        Some((format!("{{{name}}} is known {}, not {}", when(scope), self.when()), self.help(scope)))
    }

    fn allows(self, scope: Scope, source: &Source) -> bool {
        match scope {
            Scope::Session if matches!(self, Self::HttpRequest | Self::HttpResponse) => {
                !matches!(source, Source::Variable(_))
            }
            Scope::Session => true,
            // Outboxes write gaps, and have no time of day.
            Scope::Always => !matches!(self, Self::ChannelNotice | Self::Collected),
            Scope::Message => {
                matches!(
                    self,
                    Self::Message
                        | Self::Joined
                        | Self::Reply
                        | Self::Error
                        | Self::HttpRequest
                        | Self::HttpResponse
                )
            }
            Scope::Reply => matches!(self, Self::Reply | Self::HttpResponse),
            Scope::Subscription => matches!(self, Self::Deliver | Self::ChannelNotice),
            Scope::Publication => {
                self == Self::Deliver
                    || (self == Self::HttpResponse && *source == Source::Data)
                    || (self == Self::Collected && *source == Source::Time)
            }
            Scope::Call => {
                self == Self::HttpResponse
                    || (self == Self::Collected && matches!(source, Source::List | Source::Count))
            }
            Scope::Outcome => match self {
                Self::Error => matches!(source, Source::Code | Source::ErrorMessage | Source::Channel),
                Self::ChannelNotice => matches!(
                    source,
                    Source::Channel
                        | Source::Cause
                        | Source::Dropped
                        | Source::Since
                        | Source::Code
                        | Source::ErrorMessage
                ),
                Self::SessionEnd => matches!(
                    source,
                    Source::ExpiresIn | Source::CloseCode | Source::Reason | Source::RetryAfter
                ),
                Self::Session
                | Self::Message
                | Self::Joined
                | Self::Reply
                | Self::Deliver
                | Self::Collected
                | Self::HttpRequest
                | Self::HttpResponse => false,
            },
        }
    }

    fn when(self) -> &'static str {
        match self {
            Self::Session => "before the client has said anything",
            Self::Message | Self::Joined => "when a client's message is read",
            Self::Reply => "when a request is answered",
            Self::Error => "when a client is refused",
            Self::Deliver => "when something is published",
            Self::Collected => "when the elements of several publications are sent together",
            Self::ChannelNotice => "when a message about a channel is sent",
            Self::SessionEnd => "when a session ends",
            Self::HttpRequest => "when an HTTP call comes",
            Self::HttpResponse => "when an HTTP call is answered",
        }
    }

    fn help(self, scope: Scope) -> String {
        let help = match (self, scope) {
            (Self::Message | Self::Joined | Self::Reply | Self::Error, Scope::Publication) => {
                "use {msg.…}, or move it to [[deliver]]"
            }
            (Self::Deliver | Self::ChannelNotice, Scope::Message) => {
                "put it into keep of the rule that subscribes, and write {sub.…}"
            }
            (Self::Deliver, Scope::Reply) => "use {data.…}",
            (Self::Deliver, Scope::Call) => {
                "only [[http]] has it; {list} and {count} need collect = { by = … } here"
            }
            (Self::Collected, _) => "write {list}: its elements are whole; {count} and {time} are known too",
            (_, Scope::Call) => "only [[http]] has it",
            _ => "remove it, or use a value that is known there: docs/VOCABULARIES.md lists them",
        };
        help.to_owned()
    }
}

fn when(scope: Scope) -> &'static str {
    match scope {
        Scope::Always => "when a message is written for one client",
        Scope::Session => "always",
        Scope::Message => "when a client's message is read",
        Scope::Subscription => "while a client is subscribed",
        Scope::Publication => "when something is published",
        Scope::Reply => "when a request is answered",
        Scope::Outcome => "when an error or a notice is sent",
        Scope::Call => "when an HTTP call is answered",
    }
}
