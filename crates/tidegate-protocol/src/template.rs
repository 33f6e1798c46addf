//! `Template`: a pattern with `{placeholders}`. A value must become exactly one token or a part of one; otherwise it
//! is rejected.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use crate::subject::Pattern;
use crate::subject::SubjectError;

const MAX_VALUE_BYTES: usize = 128;
/// Patterns that lists may make of one template. Each is checked whenever the client asks for something.
const MAX_PATTERNS: usize = 64;

/// The value of a placeholder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlaceholderValue<'v> {
    One(Cow<'v, str>),
    /// A list: one pattern for each of its elements.
    Each(Vec<Cow<'v, str>>),
    /// There is a value, but neither a text, a whole number nor a list of these. A default does not replace it.
    Unusable,
}

/// A pattern such as `user.{sub}.>`. A placeholder is a dotted path; its value becomes a token (`{sub}`) or a part of
/// one (`u-{sub}`). `{accounts|default:[]}` and `{team|default:none}` have a default for a value that is absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

impl Template {
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let parts = split(source)?;
        // Dots also separate the segments of placeholders, so the grammar is checked with sample values.
        let sample = render(&parts, |_| Ok(Cow::Borrowed("x")))?;
        Pattern::parse(&sample).map_err(TemplateError::Pattern)?;
        check_one_placeholder_per_token(&parts)?;
        check_one_default(&parts)?;
        Ok(Self { source: source.to_owned(), parts })
    }

    /// Fills all placeholders. `lookup` gets the path between the braces.
    pub fn fill<'v>(&self, lookup: impl Fn(&str) -> Option<Cow<'v, str>>) -> Result<Pattern, TemplateError> {
        let filled = render(&self.parts, |placeholder| {
            let value = lookup(placeholder).ok_or_else(|| missing(placeholder))?;
            check_value(placeholder, &value)?;
            Ok(value)
        })?;
        Pattern::parse(&filled).map_err(TemplateError::Pattern)
    }

    /// Like [`Template::fill`], but placeholders may have several values: one pattern for each combination of values.
    /// A placeholder that occurs twice has the same value in both places.
    pub(crate) fn fill_each<'v>(
        &self,
        lookup: impl Fn(&str) -> Option<PlaceholderValue<'v>>,
    ) -> Result<Vec<Pattern>, TemplateError> {
        let mut choices: Vec<(&str, Vec<Cow<'v, str>>)> = Vec::new();
        let mut count = 1;
        for (placeholder, default) in placeholders(&self.parts) {
            if choices.iter().any(|(known, _)| *known == placeholder) {
                continue;
            }
            let values = match (lookup(placeholder), default) {
                (Some(PlaceholderValue::One(value)), _) => vec![value],
                (Some(PlaceholderValue::Each(values)), _) => values,
                (None, Some(DefaultValue::Nothing)) => Vec::new(),
                (None, Some(DefaultValue::Text(text))) => vec![Cow::Owned(text.clone())],
                (Some(PlaceholderValue::Unusable), _) | (None, None) => return Err(missing(placeholder)),
            };
            // Even if another list is empty: only an attacker sends such values.
            values.iter().try_for_each(|value| check_value(placeholder, value))?;
            count *= values.len();
            if values.len().max(count) > MAX_PATTERNS {
                return Err(TemplateError::TooManyValues { placeholder: placeholder.to_owned() });
            }
            choices.push((placeholder, values));
        }
        (0..count).map(|number| self.fill(|placeholder| chosen(&choices, number, placeholder))).collect()
    }

    /// A pattern that covers all results of filling the template.
    pub fn covering_pattern(&self) -> Pattern {
        const VALUE: &str = "\u{1}";
        let filled = render(&self.parts, |_| Ok(Cow::Borrowed(VALUE))).unwrap_or_default();
        let tokens = filled.split('.').map(|token| if token.contains(VALUE) { "*" } else { token });
        // A template that is valid with sample values is valid with wildcards.
        Pattern::parse(&tokens.collect::<Vec<_>>().join(".")).unwrap_or_else(|_| Pattern::everything())
    }

    pub fn is_static(&self) -> bool {
        self.placeholders().next().is_none()
    }

    /// The paths of its placeholders.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        placeholders(&self.parts).map(|(placeholder, _)| placeholder)
    }

    /// The paths of the placeholders that have no default.
    pub fn required_placeholders(&self) -> impl Iterator<Item = &str> {
        placeholders(&self.parts)
            .filter_map(|(placeholder, default)| default.is_none().then_some(placeholder))
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)
    }
}

/// Whether a value may be part of a subject: 1 to 128 bytes of letters, digits and `_-=@:`.
pub fn is_token_value(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=@:".contains(&byte);
    (1..=MAX_VALUE_BYTES).contains(&value.len()) && value.bytes().all(allowed)
}

/// Messages never repeat the rejected value.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum TemplateError {
    #[error("the template has a \"{{\" without its \"}}\"; close the placeholder, as in \"user.{{sub}}.>\"")]
    Unclosed,
    #[error("the template has a \"}}\" without its \"{{\"; braces may only enclose placeholders")]
    Unopened,
    #[error(
        "\"{{{placeholder}}}\" is not a placeholder; write a dotted path of letters, digits and \"_-:/\" between the braces, \
         such as \"claims.org.id\", and a default if you like, such as \"accounts|default:[]\""
    )]
    BadPlaceholder { placeholder: String },
    #[error(
        "\"{{{placeholder}}}\" shares a token with another placeholder, so different values could give one subject; put a dot \
         between them"
    )]
    TwoPlaceholders { placeholder: String },
    #[error(
        "\"{{{placeholder}}}\" has different defaults in one template; write the same default everywhere"
    )]
    TwoDefaults { placeholder: String },
    #[error("the template is not a pattern: {0}")]
    Pattern(SubjectError),
    #[error(
        "there is no text or whole number for \"{{{placeholder}}}\"; provide it, or leave the placeholder out of the template"
    )]
    Missing { placeholder: String },
    #[error(
        "the value for \"{{{placeholder}}}\" cannot be part of a subject; it must have 1 to {MAX_VALUE_BYTES} characters, \
         only letters, digits and \"_-=@:\""
    )]
    BadToken { placeholder: String },
    #[error("the list for \"{{{placeholder}}}\" makes more than {MAX_PATTERNS} patterns; make it shorter")]
    TooManyValues { placeholder: String },
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Placeholder { path: String, default: Option<DefaultValue> },
}

/// The value of a placeholder whose own value is absent.
#[derive(Clone, PartialEq, Eq, Debug)]
enum DefaultValue {
    /// `[]`: the template makes no pattern.
    Nothing,
    Text(String),
}

fn placeholders(parts: &[Part]) -> impl Iterator<Item = (&str, Option<&DefaultValue>)> {
    parts.iter().filter_map(|part| match part {
        Part::Placeholder { path, default } => Some((path.as_str(), default.as_ref())),
        Part::Text(_) => None,
    })
}

fn missing(placeholder: &str) -> TemplateError {
    TemplateError::Missing { placeholder: placeholder.to_owned() }
}

fn check_value(placeholder: &str, value: &str) -> Result<(), TemplateError> {
    if is_token_value(value) {
        Ok(())
    } else {
        Err(TemplateError::BadToken { placeholder: placeholder.to_owned() })
    }
}

/// The value of a placeholder in one combination. The last placeholder changes fastest.
fn chosen<'v>(
    choices: &[(&str, Vec<Cow<'v, str>>)],
    number: usize,
    placeholder: &str,
) -> Option<Cow<'v, str>> {
    let mut rest = number;
    for (name, values) in choices.iter().rev() {
        let value = values.get(rest % values.len())?;
        rest /= values.len();
        if *name == placeholder {
            return Some(value.clone());
        }
    }
    None
}

fn split(source: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((text, after)) = rest.split_once('{') {
        push_text(&mut parts, text)?;
        let (placeholder, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
        let parsed = parse_placeholder(placeholder);
        parts.push(
            parsed.ok_or_else(|| TemplateError::BadPlaceholder { placeholder: placeholder.to_owned() })?,
        );
        rest = after;
    }
    push_text(&mut parts, rest)?;
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), TemplateError> {
    if text.contains('}') {
        return Err(TemplateError::Unopened);
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
}

/// `None` if it is not a path, or has another filter than a default.
fn parse_placeholder(text: &str) -> Option<Part> {
    let (path, default) = match text.split_once('|') {
        None => (text, None),
        Some((path, filter)) => match filter.strip_prefix("default:")? {
            "[]" => (path, Some(DefaultValue::Nothing)),
            value if is_token_value(value) => (path, Some(DefaultValue::Text(value.to_owned()))),
            _ => return None,
        },
    };
    is_placeholder_path(path).then(|| Part::Placeholder { path: path.to_owned(), default })
}

fn is_placeholder_path(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:/".contains(&byte);
    path.split('.').all(|segment| !segment.is_empty() && segment.bytes().all(allowed))
}

fn check_one_placeholder_per_token(parts: &[Part]) -> Result<(), TemplateError> {
    let mut taken = false;
    for part in parts {
        match part {
            Part::Text(text) => taken = taken && !text.contains('.'),
            Part::Placeholder { path, .. } if taken => {
                return Err(TemplateError::TwoPlaceholders { placeholder: path.clone() });
            }
            Part::Placeholder { .. } => taken = true,
        }
    }
    Ok(())
}

/// A placeholder has the same value in all places, so it also has the same default.
fn check_one_default(parts: &[Part]) -> Result<(), TemplateError> {
    let differs = |(path, default): &(&str, Option<&DefaultValue>)| {
        placeholders(parts).any(|(other, its)| other == *path && its != *default)
    };
    match placeholders(parts).find(differs) {
        Some((path, _)) => Err(TemplateError::TwoDefaults { placeholder: path.to_owned() }),
        None => Ok(()),
    }
}

fn render<'v>(
    parts: &[Part],
    value: impl Fn(&str) -> Result<Cow<'v, str>, TemplateError>,
) -> Result<String, TemplateError> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Placeholder { path, .. } => text.push_str(&value(path)?),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
