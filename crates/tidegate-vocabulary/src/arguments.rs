//! Arguments: the values that actions get from a client's message, or the error for the client.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use tidegate_protocol::class::MAX_RATE_MS;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json;
use tidegate_protocol::list_element::ListElement;
use tidegate_protocol::message::FilterNumber;
use tidegate_protocol::message::MAX_FILTER_VALUES;
use tidegate_protocol::message::Pairs;
use tidegate_protocol::session::joined_channels::JoinedChannels;

use crate::channel::Channel;
use crate::channel::FillError;
use crate::json_template::JsonTemplate;
use crate::json_template::OnMissing;
use crate::json_template::RenderError;
use crate::model::Each;
use crate::model::Millis;
use crate::model::RuleAction;
use crate::model::SubscribeSpec;
use crate::placeholder::Fallback;
use crate::placeholder::Placeholder;
use crate::placeholder::Source;
use crate::scopes::MessageScope;
use crate::scopes::OutcomeScope;

/// The longest value of `keep` and `set`, as JSON. Ids, symbols and names are shorter, and one client can store
/// thousands.
pub(super) const MAX_KEPT_BYTES: usize = 1024;

/// The longest name of a group and the longest value of a filter, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// The values of `keep` or `set`, or an error if one is too long.
pub(super) fn pairs_of(
    json_templates: &[(Box<str>, JsonTemplate)],
    known: &MessageScope<'_>,
) -> Result<Pairs, ClientError> {
    let pair = |(name, json_template): &(Box<str>, JsonTemplate)| {
        let json = json_of(json_template, known)?;
        if json.len() > MAX_KEPT_BYTES {
            let words = format!("the value of `{name}` has more than {MAX_KEPT_BYTES} bytes");
            return Err(ClientError::new(ErrorCode::BadRequest, words));
        }
        Ok((name.clone(), json.into()))
    };
    json_templates.iter().map(pair).collect()
}

/// The channels of a rule, and the elements of `each` for which they are named.
#[derive(Default)]
pub(super) struct NamedChannels {
    /// The names. An element that gives no valid channel has an error.
    pub(super) names: Vec<Result<String, ClientError>>,
    /// The element of each, in the same order; empty if the client has sent no list.
    pub(super) elements: Vec<Option<Rc<ListElement>>>,
}

/// The channels for each element of `each`.
pub(super) fn channels_of(
    each: Option<&Each>,
    channels: &[Channel],
    known: MessageScope<'_>,
) -> Result<NamedChannels, ClientError> {
    let mut named = NamedChannels::default();
    match each {
        None => named.names.extend(channels.iter().map(|channel| channel.fill(&known).map_err(fill_error))),
        Some(Each::List(items)) => {
            let list = "each".into();
            for (item, number) in items.iter().zip(1..) {
                match element_channels(&ListElement::new(&list, number, item), item, channels, known) {
                    Ok(names) => named.names.extend(names.into_iter().map(Ok)),
                    Err(error) => named.names.push(Err(error)),
                }
            }
        }
        Some(Each::Placeholder(placeholder)) => {
            let list = list_of(placeholder, &known)?;
            let elements = json::elements(&list).ok_or_else(|| bad_value(placeholder, "must be a list"))?;
            // Equal elements give equal channels.
            let mut seen = HashSet::new();
            let list = client_name_of(placeholder).into();
            for (item, number) in elements.into_iter().zip(1..).filter(|(item, _)| seen.insert(*item)) {
                let element = Rc::new(ListElement::new(&list, number, item));
                match element_channels(&element, item, channels, known) {
                    Ok(names) => {
                        let elements = std::iter::repeat_n(Some(element), names.len());
                        named.elements.extend(elements);
                        named.names.extend(names.into_iter().map(Ok));
                    }
                    Err(error) => {
                        named.elements.push(None);
                        named.names.push(Err(error));
                    }
                }
            }
        }
    }
    Ok(named)
}

/// The elements of `each` all of whose channels the session has joined now, as a JSON list. Without a session, all whose
/// channels can be named.
pub(super) fn joined_of(action: &RuleAction, known: MessageScope<'_>) -> Option<String> {
    let RuleAction::Subscribe(SubscribeSpec { each, channels, group, .. }) = action else { return None };
    let list;
    let items: Vec<&str> = match each.as_ref()? {
        Each::List(items) => items.iter().map(|item| &**item).collect(),
        Each::Placeholder(placeholder) => {
            list = list_of(placeholder, &known).ok()?;
            json::elements(&list)?
        }
    };
    let group = group_of(group.as_ref(), &known).ok()?;
    let names = items.len() * channels.len();
    let joined = known.scope.subscriptions.map(|all| JoinedChannels::of(all, &group, names));
    let is_joined = |item: &&str| {
        let known = MessageScope { item: Some(item), ..known };
        let mut names = channels.iter().map(|channel| channel.fill(&known));
        let has = |name: &str| joined.as_ref().is_none_or(|joined| joined.contains(name));
        names.all(|name| name.is_ok_and(|name| has(&name)))
    };
    Some(format!("[{}]", items.into_iter().filter(is_joined).collect::<Vec<_>>().join(",")))
}

/// The channels of an element. If one of them cannot be named, the element names none, and this is one error.
fn element_channels(
    element: &ListElement,
    item: &str,
    channels: &[Channel],
    known: MessageScope<'_>,
) -> Result<Vec<String>, ClientError> {
    let known = MessageScope { item: Some(item), ..known };
    let name = |channel: &Channel| {
        channel.fill(&known).map_err(|error| {
            let (code, placeholder) = match &error {
                FillError::Missing(placeholder) => (ErrorCode::BadRequest, *placeholder),
                FillError::NotAToken(placeholder, _) => (ErrorCode::BadChannel, *placeholder),
            };
            if placeholder.source != Source::Item {
                return fill_error(error);
            }
            element.error(&ClientError::new(code, format!("each must be {}", words_for(placeholder))))
        })
    };
    channels.iter().map(name).collect()
}

/// The JSON in which a list is expected.
fn list_of(placeholder: &Placeholder, known: &MessageScope<'_>) -> Result<String, ClientError> {
    let value = placeholder.value_or_default(known).ok_or_else(|| bad_value(placeholder, "is missing"))?;
    Ok(value.to_json())
}

pub(super) fn headers_of(
    headers: &[(Box<str>, JsonTemplate)],
    known: &MessageScope<'_>,
) -> Result<Vec<(String, String)>, ClientError> {
    let headers = headers.iter().map(|(name, value)| {
        let value = value.text(known, OnMissing::Fail).map_err(render_error)?;
        Ok((name.to_string(), value))
    });
    headers.collect()
}

pub(super) fn group_of(
    group: Option<&JsonTemplate>,
    known: &MessageScope<'_>,
) -> Result<Box<str>, ClientError> {
    let Some(group) = group else { return Ok(Box::default()) };
    let name = scalar(&json_of(group, known)?);
    // Rules without a group have the group "". A client must not reach their channels by an empty text.
    name.filter(|name| !name.is_empty() || may_be_empty(group)).ok_or_else(|| {
        let words =
            format!("the name of the group must be a text or a number of 1 to {MAX_NAME_BYTES} bytes");
        ClientError::new(ErrorCode::BadRequest, words)
    })
}

/// Whether the file lets a group be `""`, the group of rules without one: it is that text, or has it as a default.
pub(super) fn may_be_empty(group: &JsonTemplate) -> bool {
    let is_empty = |placeholder: &Placeholder| matches!(&placeholder.fallback, Fallback::Default(json) if &**json == "\"\"");
    let placeholders = group.placeholders();
    placeholders.iter().any(|placeholder| is_empty(placeholder))
        || placeholders.is_empty()
            && group.text(&OutcomeScope::default(), OnMissing::Null).is_ok_and(|text| text.is_empty())
}

pub(super) fn values_of(
    placeholder: &Placeholder,
    known: &MessageScope<'_>,
) -> Result<Box<[Box<str>]>, ClientError> {
    let list = list_of(placeholder, known)?;
    let values =
        json::elements(&list).and_then(|values| values.into_iter().map(scalar).collect::<Option<Box<[_]>>>());
    let values = values.filter(|values| values.len() <= MAX_FILTER_VALUES);
    values.ok_or_else(|| bad_value(placeholder, "must be a list of at most 64 texts or numbers"))
}

/// A bound of a filter. `None` if there is none, or if the placeholder is optional and has no value.
pub(super) fn bound_of(
    bound: Option<&Placeholder>,
    known: &MessageScope<'_>,
) -> Result<Option<FilterNumber>, ClientError> {
    let Some(placeholder) = bound else { return Ok(None) };
    let value = placeholder.value_or_default(known);
    if value.is_none() && placeholder.fallback == Fallback::Omit {
        return Ok(None);
    }
    let number = value.and_then(|value| FilterNumber::parse(&value.to_json()));
    number.map(Some).ok_or_else(|| bad_value(placeholder, "must be a number"))
}

/// The text of a JSON string, number or boolean, if it is not too long.
fn scalar(json: &str) -> Option<Box<str>> {
    let text: Box<str> = json::text(json).map_or_else(|| json.into(), |text| Box::from(&*text));
    let fits = text.len() <= MAX_NAME_BYTES && !json.starts_with(['{', '[']) && json != "null";
    fits.then_some(text)
}

pub(super) fn max_rate(rate: &Millis, known: &MessageScope<'_>) -> Result<Duration, ClientError> {
    let duration = millis(rate, known)?;
    match rate {
        Millis::Placeholder(placeholder) if duration.as_millis() > u128::from(MAX_RATE_MS) => {
            Err(bad_value(placeholder, &format!("must be at most {MAX_RATE_MS} milliseconds")))
        }
        Millis::Placeholder(_) | Millis::Fixed(_) => Ok(duration),
    }
}

pub(super) fn millis(millis: &Millis, known: &MessageScope<'_>) -> Result<Duration, ClientError> {
    match millis {
        Millis::Fixed(duration) => Ok(*duration),
        Millis::Placeholder(placeholder) => {
            let value =
                placeholder.value_or_default(known).and_then(|value| value.to_json().parse::<u32>().ok());
            let value =
                value.ok_or_else(|| bad_value(placeholder, "must be a whole number of milliseconds"))?;
            Ok(Duration::from_millis(u64::from(value)))
        }
    }
}

pub(super) fn json_of(json_template: &JsonTemplate, known: &MessageScope<'_>) -> Result<String, ClientError> {
    let mut out = Vec::new();
    json_template.render(known, OnMissing::Fail, &mut out).map_err(render_error)?;
    Ok(String::from_utf8(out).unwrap_or_default())
}

/// What clients call the value of a placeholder.
fn client_name_of(placeholder: &Placeholder) -> &str {
    let name = placeholder.name.strip_prefix("msg.").unwrap_or(&placeholder.name);
    if name == "msg" { "the message" } else { name }
}

pub(super) fn bad_value(placeholder: &Placeholder, words: &str) -> ClientError {
    ClientError::new(ErrorCode::BadRequest, format!("`{}` {words}", client_name_of(placeholder)))
}

pub(super) fn render_error(error: RenderError<'_>) -> ClientError {
    match error {
        RenderError::Missing(placeholder) => bad_value(placeholder, "is missing"),
        RenderError::NotAnObject(placeholder) => bad_value(placeholder, "must be an object"),
    }
}

pub(super) fn fill_error(error: FillError<'_>) -> ClientError {
    match error {
        FillError::Missing(placeholder) => bad_value(placeholder, "is missing"),
        FillError::NotAToken(placeholder, shown) => {
            let (name, words) = (client_name_of(placeholder), words_for(placeholder));
            ClientError::new(ErrorCode::BadChannel, format!("`{name}` must be {words}; it is {shown}"))
        }
    }
}

/// What a value in a subject must be.
fn words_for(placeholder: &Placeholder) -> &'static str {
    if placeholder.is_user_token() {
        "the name of a user"
    } else if placeholder.is_dotted {
        "1 to 8 words with dots between them, each of letters, digits and _-=@:/+^&#~ and at most 128 bytes"
    } else {
        "one word: letters, digits and _-=@:/+^&#~, at most 128 bytes"
    }
}
