//! Channel: a subject template. Each placeholder becomes one token or a part of one, so a client cannot reach other
//! subjects. Only a last place with the filter `dotted` may become several tokens.

use std::borrow::Cow;

use tidegate_protocol::error::shortened;
use tidegate_protocol::json;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::SubjectError;

use crate::json_template::JsonTemplateError;
use crate::json_template::compiler::Part;
use crate::json_template::compiler::parts;
use crate::placeholder::Fallback;
use crate::placeholder::Placeholder;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::SourceValue;
use crate::placeholder::Value;
use crate::time_format::TimeFormat;

/// The longest value in a subject, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 128;
/// The most tokens of a value with the filter `dotted`.
pub(crate) const MAX_DOTTED_TOKENS: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    parts: Box<[Part]>,
}

/// Why a subject template has no subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FillError<'c> {
    /// This placeholder has no value.
    Missing(&'c Placeholder),
    /// The value of this placeholder cannot be a token, or with `dotted` not up to eight of them.
    NotAToken(&'c Placeholder, Box<str>),
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ChannelError {
    /// A placeholder is invalid.
    #[error(transparent)]
    Template(#[from] JsonTemplateError),
    /// The subject is invalid, whatever the placeholders hold.
    #[error("it is no subject: {0}")]
    Subject(SubjectError),
    /// Two placeholders share a token: different values could give one subject.
    #[error(
        "two placeholders share a token, so that different values could give one subject: put a dot between them"
    )]
    TwoPlaceholders,
    /// A placeholder is optional. A token cannot be left out.
    #[error("a token cannot be optional: take the filter out, or write default:")]
    Optional,
    /// A value that may be several tokens has a place in which it must be one.
    #[error(
        "{{{name}|dotted}} may become several tokens, so it must be the whole last place of the subject; only `.*` may \
         follow it"
    )]
    DottedPlace { name: Box<str> },
    /// A value that may be several tokens comes from elsewhere than the client's message, path or query.
    #[error("{{{name}}} is always one token: `dotted` is for values of the message, the path and the query")]
    DottedSource { name: Box<str> },
}

impl Channel {
    pub(crate) fn compile(text: &str) -> Result<Self, ChannelError> {
        let parts = parts(text, TimeFormat::default())?;
        let mut taken = false;
        for part in &parts {
            match part {
                Part::Plain(text) => taken = taken && !text.contains('.'),
                Part::Placeholder(placeholder) if placeholder.fallback == Fallback::Omit => {
                    return Err(ChannelError::Optional);
                }
                Part::Placeholder(_) if taken => return Err(ChannelError::TwoPlaceholders),
                Part::Placeholder(_) => taken = true,
            }
        }
        check_dotted(&parts)?;
        let channel = Self { parts: parts.into() };
        Pattern::parse(&channel.with(|_| "x".into())).map_err(ChannelError::Subject)?;
        Ok(channel)
    }

    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(placeholder),
            Part::Plain(_) => None,
        })
    }

    /// Each placeholder, and the number of its token from 0.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, &Placeholder)> {
        let mut token = 0;
        self.parts.iter().filter_map(move |part| match part {
            Part::Placeholder(placeholder) => Some((token, placeholder)),
            Part::Plain(text) => {
                token += text.matches('.').count();
                None
            }
        })
    }

    /// Its last placeholder, if the value of that may be several tokens.
    pub(crate) fn dotted(&self) -> Option<&Placeholder> {
        self.placeholders().last().filter(|placeholder| placeholder.is_dotted)
    }

    /// A pattern that covers every subject of this template: a token with a placeholder becomes `*`, and a last place
    /// with `dotted` becomes `>`, together with what follows it.
    pub(crate) fn reach(&self) -> Pattern {
        self.reach_with(|_| None)
    }

    /// The same, with values for the placeholders that are known.
    pub(crate) fn reach_with<'k>(&self, known: impl Fn(&Placeholder) -> Option<&'k str>) -> Pattern {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Plain(text) => filled += text,
                Part::Placeholder(placeholder) => match known(placeholder) {
                    Some(value) => filled += value,
                    None if placeholder.is_dotted => {
                        filled.push('>');
                        break;
                    }
                    None => filled.push('{'),
                },
            }
        }
        let tokens = filled.split('.').map(|token| if token.contains('{') { "*" } else { token });
        // This cannot fail: with `x` for each placeholder it was a pattern.
        Pattern::parse(&tokens.collect::<Vec<_>>().join(".")).unwrap_or_else(|_| Pattern::everything())
    }

    /// Whether the template itself has a wildcard.
    pub(crate) fn is_wild(&self) -> bool {
        Pattern::parse(&self.with(|_| "x".into())).is_ok_and(|pattern| !pattern.is_literal())
    }

    /// The first token as in the file, without filters other than `dotted`, and its placeholder.
    pub(crate) fn first(&self) -> (String, Option<&Placeholder>) {
        let (mut written, mut first) = (String::new(), None);
        for part in &self.parts {
            match part {
                Part::Plain(text) => match text.split_once('.') {
                    Some((token, _)) => return (written + token, first),
                    None => written += text,
                },
                Part::Placeholder(placeholder) => {
                    let dotted = if placeholder.is_dotted { "|dotted" } else { "" };
                    written += &format!("{{{}{dotted}}}", placeholder.name);
                    first = Some(placeholder);
                }
            }
        }
        (written, first)
    }

    fn with<'t>(&self, value: impl Fn(&Placeholder) -> Cow<'t, str>) -> String {
        let texts = self.parts.iter().map(|part| match part {
            Part::Plain(text) => Cow::Borrowed(text.as_str()),
            Part::Placeholder(placeholder) => value(placeholder),
        });
        texts.collect()
    }

    /// The subject with its placeholders filled. Each token is valid, and only a place with `dotted` has more than one;
    /// the limits on whole subjects are not checked here.
    pub(crate) fn fill(&self, fill: &impl Resolve) -> Result<String, FillError<'_>> {
        let mut subject = String::new();
        for part in &self.parts {
            let placeholder = match part {
                Part::Plain(text) => {
                    subject += text;
                    continue;
                }
                Part::Placeholder(placeholder) => placeholder,
            };
            // In subjects, a user is always its token: its name may have dots and wildcards.
            let user = UserToken(fill.user_token());
            let is_user = placeholder.source == Source::User;
            let value = if is_user { placeholder.value(&user) } else { placeholder.value(fill) };
            let value = match (value, &placeholder.fallback) {
                (Some(value), _) => value,
                (None, Fallback::Default(json)) => Value::Json(json.as_ref().into()),
                (None, Fallback::None | Fallback::Omit) => {
                    let named = placeholder.is_user_token().then(|| placeholder.unfiltered(fill)).flatten();
                    return Err(match named.filter(|named| *named != Value::Json("null".into())) {
                        Some(Value::Json(shown) | Value::Text(shown)) => {
                            FillError::NotAToken(placeholder, shortened(shown.into_owned()).into())
                        }
                        None => FillError::Missing(placeholder),
                    });
                }
            };
            subject += &subject_part(placeholder, &value).ok_or_else(|| match &value {
                Value::Json(json) if json.trim() == "null" => FillError::Missing(placeholder),
                Value::Json(shown) | Value::Text(shown) => {
                    FillError::NotAToken(placeholder, shortened(shown.to_string()).into())
                }
            })?;
        }
        Ok(subject)
    }
}

/// The user of a session, for subjects.
struct UserToken<'u>(Option<&'u str>);

impl Resolve for UserToken<'_> {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        (*source == Source::User).then_some(SourceValue::Value(Value::Text(self.0?.into())))
    }
}

/// Checks that a value that may be several tokens is a whole last place, and comes from the client.
fn check_dotted(parts: &[Part]) -> Result<(), ChannelError> {
    for (at, part) in parts.iter().enumerate() {
        let placeholder = match part {
            Part::Placeholder(placeholder) if placeholder.is_dotted => placeholder,
            Part::Placeholder(_) | Part::Plain(_) => continue,
        };
        let name = || placeholder.name.clone();
        let begins_token = match at.checked_sub(1).and_then(|before| parts.get(before)) {
            Some(Part::Plain(text)) => text.ends_with('.'),
            Some(Part::Placeholder(_)) => false,
            None => true,
        };
        let ends_subject = match parts.get(at + 1) {
            Some(Part::Plain(text)) => text == ".*" && at + 2 == parts.len(),
            Some(Part::Placeholder(_)) => false,
            None => true,
        };
        if !begins_token || !ends_subject {
            return Err(ChannelError::DottedPlace { name: name() });
        }
        // Whether a variable comes from the client is checked when all rules are known. A part of a payload can only be
        // in the channel of an element, which decides who gets it and reaches no subject.
        let may_be_dotted = is_from_client(&placeholder.source)
            || matches!(placeholder.source, Source::Variable(_) | Source::Data);
        if !may_be_dotted {
            return Err(ChannelError::DottedSource { name: name() });
        }
    }
    Ok(())
}

/// Whether a value of this source may be several tokens: the client chooses it, and it is not an identity.
pub(crate) fn is_from_client(source: &Source) -> bool {
    matches!(source, Source::Message | Source::Item | Source::Path(_) | Source::Query(_))
}

/// The value of a placeholder as a token, or with `dotted` as up to eight tokens.
pub(crate) fn subject_part(placeholder: &Placeholder, value: &Value<'_>) -> Option<String> {
    let text = word(value)?;
    let fits = if placeholder.is_dotted { is_dotted(&text) } else { is_token(&text) };
    fits.then(|| text.into_owned())
}

/// A text or a whole number.
fn word<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    if let Value::Json(json) = value {
        let json = json.trim();
        let whole = json::is_number(json) && json.parse::<i128>().is_ok();
        if !json.starts_with('"') && !whole {
            return None;
        }
    }
    value.as_text()
}

/// Whether a text may be one token of a subject. It allows what patterns of roles allow, and characters of market
/// symbols. Nothing in it needs escaping anywhere or can be mistaken for something else.
pub(crate) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=@:/+^&#~".contains(&byte);
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether a text may be up to eight tokens of a subject, with dots between them.
pub(crate) fn is_dotted(text: &str) -> bool {
    let mut tokens = text.split('.');
    tokens.by_ref().take(MAX_DOTTED_TOKENS).all(is_token) && tokens.next().is_none()
}

#[cfg(test)]
mod tests;
