//! Channel: a subject with placeholders, each of which becomes one token or a part of one: whatever a client sends, it names
//! no other part of the subjects.

use std::borrow::Cow;

use tidegate_protocol::error::shortened;
use tidegate_protocol::json;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::SubjectError;

use crate::json_template::JsonTemplateError;
use crate::json_template::compiler::Part;
use crate::json_template::compiler::parts;
use crate::placeholder::Placeholder;
use crate::placeholder::Resolve;
use crate::placeholder::TimeFormat;
use crate::placeholder::Value;
use crate::placeholder::WhenAbsent;

/// The longest value that goes into a subject, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 128;

/// A compiled subject template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Channel {
    parts: Box<[Part]>,
}

/// Why there is no subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unnamed<'c> {
    /// This placeholder has no value.
    Missing(&'c Placeholder),
    /// This placeholder has one that cannot be a token.
    NoToken(&'c Placeholder, Box<str>),
}

/// What is wrong with a subject template.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ChannelError {
    /// It has a placeholder that makes no sense.
    #[error(transparent)]
    Shape(#[from] JsonTemplateError),
    /// It is no subject even with the placeholders filled.
    #[error("it is no subject: {0}")]
    Subject(SubjectError),
    /// Two values could change places unseen.
    #[error(
        "two placeholders share a token, so that different values could give one subject: put a dot between them"
    )]
    TwoHoles,
    /// A token cannot be left out.
    #[error("a token cannot be optional: take the filter out, or write default:")]
    Optional,
}

impl Channel {
    /// Compiles a template.
    pub(crate) fn compile(text: &str) -> Result<Self, ChannelError> {
        let parts = parts(text, TimeFormat::default())?;
        let mut taken = false;
        for part in &parts {
            match part {
                Part::Plain(text) => taken = taken && !text.contains('.'),
                Part::Placeholder(placeholder) if placeholder.absent == WhenAbsent::LeftOut => {
                    return Err(ChannelError::Optional);
                }
                Part::Placeholder(_) if taken => return Err(ChannelError::TwoHoles),
                Part::Placeholder(_) => taken = true,
            }
        }
        let channel = Self { parts: parts.into() };
        Pattern::parse(&channel.with(|_| "x".into())).map_err(ChannelError::Subject)?;
        Ok(channel)
    }

    /// Its placeholders.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(placeholder),
            Part::Plain(_) => None,
        })
    }

    /// What covers all that it can become: a token with a placeholder is any token.
    pub(crate) fn reach(&self) -> Pattern {
        self.reach_with(|_| None)
    }

    /// The same if some of its placeholders can only become what is known of them.
    pub(crate) fn reach_with<'k>(&self, known: impl Fn(&Placeholder) -> Option<&'k str>) -> Pattern {
        let filled = self.with(|placeholder| known(placeholder).unwrap_or("{").into());
        let tokens = filled.split('.').map(|token| if token.contains('{') { "*" } else { token });
        // The same text with `x` for the placeholders was a pattern.
        Pattern::parse(&tokens.collect::<Vec<_>>().join(".")).unwrap_or_else(|_| Pattern::everything())
    }

    /// Whether it has a wildcard of its own.
    pub(crate) fn is_wild(&self) -> bool {
        Pattern::parse(&self.with(|_| "x".into())).is_ok_and(|pattern| !pattern.is_literal())
    }

    /// Its first token as it is written, but for filters, and the placeholder in it.
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

    /// The subject with its placeholders filled. It is within no limits but those of a token yet.
    pub(crate) fn fill(&self, fill: &impl Resolve) -> Result<String, Unnamed<'_>> {
        let mut subject = String::new();
        for part in &self.parts {
            let placeholder = match part {
                Part::Plain(text) => {
                    subject += text;
                    continue;
                }
                Part::Placeholder(placeholder) => placeholder,
            };
            let value = match (placeholder.value(fill), &placeholder.absent) {
                (Some(value), _) => value,
                (None, WhenAbsent::Default(json)) => Value::Json(json.as_ref().into()),
                (None, WhenAbsent::Missing | WhenAbsent::LeftOut) => {
                    return Err(Unnamed::Missing(placeholder));
                }
            };
            subject += &token(&value).ok_or_else(|| match &value {
                Value::Json(json) if json.trim() == "null" => Unnamed::Missing(placeholder),
                Value::Json(shown) | Value::Text(shown) => {
                    Unnamed::NoToken(placeholder, shortened(shown.to_string()).into())
                }
            })?;
        }
        Ok(subject)
    }
}

/// A value as one token: a text or a whole number.
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

/// Whether a text may be as one token of a subject: what a role's pattern takes, and a few signs of market symbols.
/// Nothing that has to be escaped anywhere, or that looks like something else.
pub(crate) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=@:/+^&#~".contains(&byte);
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placeholder::Given;
    use crate::placeholder::Source;

    /// A message of a client.
    struct Said(&'static str);

    impl Resolve for Said {
        fn value(&self, source: &Source) -> Option<Given<'_>> {
            (*source == Source::Message).then(|| Given::Value(Value::Json(self.0.into())))
        }
    }

    fn filled(template: &str, message: &'static str) -> String {
        let channel = Channel::compile(template).unwrap();
        channel.fill(&Said(message)).unwrap_or_else(|unnamed| match unnamed {
            Unnamed::Missing(placeholder) => format!("{} is missing", placeholder.name),
            Unnamed::NoToken(placeholder, _) => format!("{} is no token", placeholder.name),
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
