//! Path: finds the path of a vocabulary that a request matches, and reads the request's values.

use std::sync::Arc;

use tidegate_protocol::error::shortened;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::url;

use crate::binding::Binding;
use crate::binding::RequestValues;
use crate::channel::is_dotted;
use crate::channel::is_token;
use crate::model::CompiledVocabulary;
use crate::model::NoMatch;
use crate::model::PathRule;
use crate::model::Segment;
use crate::model::SubjectParameter;
use crate::route::PathIndex;

/// The longest value of a query parameter or header that placeholders see, in bytes.
const MAX_VALUE_BYTES: usize = 1024;
/// The longest value of a path parameter, in bytes.
const MAX_SEGMENT_BYTES: usize = 128;

impl CompiledVocabulary {
    /// Finds the path that matches a request and reads its values. `path` and `query` are percent-encoded.
    pub fn bind<'r>(
        self: &Arc<Self>,
        number: VocabularyId,
        path: &str,
        query: Option<&str>,
        header: impl Fn(&str) -> Option<&'r [u8]>,
    ) -> Result<Binding, NoMatch> {
        let found = self
            .paths
            .iter()
            .zip((0..).map(PathIndex))
            .find_map(|(rule, at)| Some((rule, at, rule.matches(path)?)));
        let (rule, at, parameters) = found.ok_or(NoMatch::UnknownPath)?;
        let binding = self.binding(number, at, parameters, query, &header)?;
        if binding.fits(&rule.parameters) { Ok(binding) } else { Err(NoMatch::BadValue) }
    }

    /// Reads the values of a request.
    pub(super) fn binding<'r>(
        self: &Arc<Self>,
        number: VocabularyId,
        path: PathIndex,
        parameters: RequestValues,
        query: Option<&str>,
        header: &impl Fn(&str) -> Option<&'r [u8]>,
    ) -> Result<Binding, NoMatch> {
        let is_plain = |(_, value): &(Box<str>, Box<str>)| {
            value.len() <= MAX_SEGMENT_BYTES && !value.is_empty() && !value.contains(char::is_control)
        };
        if !parameters.0.iter().all(is_plain) {
            return Err(NoMatch::BadValue);
        }
        let query = query.unwrap_or_default();
        self.check_query(query)?;
        let values = self.queries.iter().filter_map(|name| {
            let value =
                url::query_value(query, name).or_else(|| url::query_value(query, &format!("{name}[]")))?;
            Some((name.clone(), value.into_boxed_str()))
        });
        let lists = self.query_lists.iter().filter_map(|name| {
            let joined = url::query_list(query, name).reduce(|joined, value| joined + "," + &value)?;
            Some((name.clone(), joined.into_boxed_str()))
        });
        let headers = self.headers.iter().filter_map(|name| {
            let value = header_value(name, header(name)?);
            Some(value.map(|value| (name.clone(), value.into())))
        });
        Ok(Binding {
            vocabulary: Arc::clone(self),
            number,
            path,
            parameters,
            query: RequestValues(values.collect()),
            query_lists: RequestValues(lists.collect()),
            headers: RequestValues(headers.collect::<Result<_, _>>()?),
            identity_hint: None,
        })
    }

    /// Checks the query parameters that rules read. A value that cannot be used does not count as absent: then a call
    /// that names one user could be taken for a call for all.
    fn check_query(&self, query: &str) -> Result<(), NoMatch> {
        let names = || self.queries.iter().chain(&self.query_lists);
        for (key, value) in url::query_pairs(query) {
            let name = key.strip_suffix("[]").unwrap_or(&key);
            if !names().any(|known| **known == *name) {
                let Some(known) = names().find(|known| known.eq_ignore_ascii_case(name)) else { continue };
                let name = shortened(name.to_owned());
                return Err(NoMatch::BadParameter(format!(
                    "the query parameter `{name}` is unknown: write `{known}`, because names are case-sensitive"
                )));
            }
            let is_list = self.query_lists.iter().any(|list| **list == *name);
            let wrong = match value {
                None => "has an invalid escape".to_owned(),
                // Lists may be long.
                Some(value) if value.len() > MAX_VALUE_BYTES && !is_list => {
                    format!("has more than {MAX_VALUE_BYTES} bytes")
                }
                Some(_) => continue,
            };
            return Err(NoMatch::BadParameter(format!("the query parameter `{name}` {wrong}")));
        }
        Ok(())
    }
}

/// The value of a header that rules read. One that cannot be used does not count as absent.
fn header_value<'v>(name: &str, value: &'v [u8]) -> Result<&'v str, NoMatch> {
    let is_visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let text = std::str::from_utf8(value).ok().filter(|_| value.iter().all(is_visible));
    let wrong = match text {
        Some(text) if text.len() <= MAX_VALUE_BYTES => return Ok(text),
        Some(_) => format!("has more than {MAX_VALUE_BYTES} bytes"),
        None => "has characters other than visible ASCII".to_owned(),
    };
    Err(NoMatch::BadParameter(format!("the header `{name}` {wrong}")))
}

impl Binding {
    /// Whether the values of these parameters, which become part of subjects, can be tokens.
    pub(super) fn fits(&self, in_subjects: &[SubjectParameter]) -> bool {
        let mut values = self.parameters.0.iter();
        values.all(|(name, value)| {
            in_subjects.iter().all(|parameter| parameter.name != *name || parameter.allows(value))
        })
    }
}

impl SubjectParameter {
    /// Whether a value fits into the subjects.
    fn allows(&self, value: &str) -> bool {
        if self.is_dotted { is_dotted(value) } else { is_token(value) }
    }
}

impl PathRule {
    /// Whether a percent-encoded path matches.
    pub fn is_at(&self, path: &str) -> bool {
        self.matches(path).is_some()
    }

    fn matches(&self, path: &str) -> Option<RequestValues> {
        parameters(&self.segments, path)
    }
}

/// The parameters of a percent-encoded path, decoded, if it matches these segments. A value that cannot be decoded
/// becomes empty.
pub(super) fn parameters(segments: &[Segment], path: &str) -> Option<RequestValues> {
    let mut parameters = Vec::new();
    let mut given = path.strip_prefix('/')?.split('/');
    for segment in segments {
        let raw = given.next()?;
        match segment {
            Segment::Literal(text) if **text == *raw => {}
            Segment::Literal(_) => return None,
            Segment::Parameter(_) if raw.is_empty() => return None,
            Segment::Parameter(name) => {
                let value = url::decode(raw).unwrap_or_default();
                parameters.push((name.clone(), value.into_boxed_str()));
            }
        }
    }
    given.next().is_none().then(|| RequestValues(parameters.into()))
}
