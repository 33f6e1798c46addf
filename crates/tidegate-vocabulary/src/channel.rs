//! Channel: a subject template. Each placeholder becomes one token or a part of one, so a client cannot reach other
//! subjects.

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
use crate::placeholder::TimeFormat;
use crate::placeholder::Value;

/// The longest value in a subject, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    parts: Box<[Part]>,
}

/// Why a subject template has no subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FillError<'c> {
    /// This placeholder has no value.
    Missing(&'c Placeholder),
    /// The value of this placeholder cannot be a token.
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

    /// A pattern that covers every subject of this template: a token with a placeholder becomes `*`.
    pub(crate) fn reach(&self) -> Pattern {
        self.reach_with(|_| None)
    }

    /// The same, with values for the placeholders that are known.
    pub(crate) fn reach_with<'k>(&self, known: impl Fn(&Placeholder) -> Option<&'k str>) -> Pattern {
        let filled = self.with(|placeholder| known(placeholder).unwrap_or("{").into());
        let tokens = filled.split('.').map(|token| if token.contains('{') { "*" } else { token });
        // This cannot fail: with `x` for each placeholder it was a pattern.
        Pattern::parse(&tokens.collect::<Vec<_>>().join(".")).unwrap_or_else(|_| Pattern::everything())
    }

    /// Whether the template itself has a wildcard.
    pub(crate) fn is_wild(&self) -> bool {
        Pattern::parse(&self.with(|_| "x".into())).is_ok_and(|pattern| !pattern.is_literal())
    }

    /// The first token as in the file, without filters, and its placeholder.
    pub(crate) fn first(&self) -> (String, Option<&Placeholder>) {
        let (mut written, mut first) = (String::new(), None);
        for part in &self.parts {
            match part {
                Part::Plain(text) => match text.split_once('.') {
                    Some((token, _)) => return (written + token, first),
                    None => written += text,
                },
                Part::Placeholder(placeholder) => {
                    written += &format!("{{{}}}", placeholder.name);
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

    /// The subject with its placeholders filled. Each token is valid; the limits on whole subjects are not checked
    /// here.
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
                    return Err(FillError::Missing(placeholder));
                }
            };
            subject += &token(&value).ok_or_else(|| match &value {
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

/// A text or a whole number as a token.
pub(crate) fn token(value: &Value<'_>) -> Option<String> {
    if let Value::Json(json) = value {
        let json = json.trim();
        let whole = json::is_number(json) && json.parse::<i128>().is_ok();
        if !json.starts_with('"') && !whole {
            return None;
        }
    }
    let text = value.as_text()?;
    is_token(&text).then(|| text.into_owned())
}

/// Whether a text may be one token of a subject. It allows what patterns of roles allow, and characters of market
/// symbols. Nothing in it needs escaping anywhere or can be mistaken for something else.
pub(crate) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=@:/+^&#~".contains(&byte);
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Said(&'static str);

    impl Resolve for Said {
        fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
            (*source == Source::Message).then(|| SourceValue::Value(Value::Json(self.0.into())))
        }
    }

    fn filled(template: &str, message: &'static str) -> String {
        let channel = Channel::compile(template).unwrap();
        channel.fill(&Said(message)).unwrap_or_else(|error| match error {
            FillError::Missing(placeholder) => format!("{} is missing", placeholder.name),
            FillError::NotAToken(placeholder, _) => format!("{} is no token", placeholder.name),
        })
    }

    #[test]
    fn a_value_becomes_one_token() {
        assert_eq!(filled("prices.{msg.s}", r#"{"s":"AAPL"}"#), "prices.AAPL");
        assert_eq!(filled("prices.{msg.s|upper}.x", r#"{"s":"eur/usd"}"#), "prices.EUR/USD.x");
        assert_eq!(filled("u-{msg.s}", r#"{"s":7}"#), "u-7");
        assert_eq!(filled("r.{msg.s|default:all}", "{}"), "r.all");
        assert_eq!(filled("r.{msg.s}", "{}"), "msg.s is missing");
        assert_eq!(filled("r.{msg.s}", r#"{"s":null}"#), "msg.s is missing");
    }

    #[test]
    fn sub_01_a_value_that_is_no_token_names_nothing() {
        let hostile = [
            r#""*""#,
            r#"">""#,
            r#""a.b""#,
            r#""""#,
            r#"" ""#,
            r#""a b""#,
            r#""\u0000""#,
            r#""a\u2028""#,
            r#""a\n""#,
            r#""a*""#,
            r#""\u002a""#,
            r#""\uff0a""#,
            r#""%2E""#,
            "1.5",
            "true",
            "[]",
            r#"["a"]"#,
            "{}",
            r#"{"a":1}"#,
            "-1e3",
        ];
        for value in hostile {
            let message: &'static str = format!("{{\"s\":{value}}}").leak();
            assert_eq!(filled("r.{msg.s}", message), "msg.s is no token", "{value}");
        }
        let long: &'static str = format!("{{\"s\":\"{}\"}}", "x".repeat(MAX_TOKEN_BYTES + 1)).leak();
        assert_eq!(filled("r.{msg.s}", long), "msg.s is no token");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            "a..b",
            "{msg.a}{msg.b}",
            "a.{msg.a}-{item}",
            "a.{msg.a|optional}",
            "a b",
            "a.{x",
            ">.{item}",
        ] {
            assert!(Channel::compile(text).is_err(), "{text}");
        }
        assert_eq!(Channel::compile("a.b-{item}.*.{user}").unwrap().reach().as_str(), "a.*.*.*");
    }
}
