//! The question whether a client may subscribe to a channel, and its answer. It only narrows what roles allow.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::auth::decisions::Answer;
use crate::auth::decisions::ServiceQuestion;
use crate::auth::service::check_size;
use crate::auth::service::keep;
use crate::auth::service::refusal;
use crate::auth::service::unreadable;

/// What a service says about a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubscribeDecision {
    Allowed,
    /// The message for the client.
    Refused(Arc<str>),
}

/// Whether a client may subscribe to a channel, and where the client is.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeQuestion<'q> {
    pub identity: &'q Identity,
    pub channel: &'q Pattern,
    pub endpoint: &'q str,
    pub address: Option<IpAddr>,
}

impl SubscribeQuestion<'_> {
    /// The question to the service at `subject`.
    pub fn to(&self, subject: &Subject) -> ServiceQuestion {
        #[derive(Serialize)]
        struct Written<'q> {
            channel: &'q str,
            /// `None`: the client is anonymous.
            user: Option<&'q str>,
            roles: Vec<&'q str>,
            issuer: Option<&'q str>,
            claims: Option<&'q RawValue>,
            endpoint: &'q str,
            address: Option<IpAddr>,
        }
        let identity = self.identity;
        let written = Written {
            channel: self.channel.as_str(),
            user: (!identity.anonymous).then_some(&*identity.user),
            roles: identity.roles.iter().map(|role| &**role).collect(),
            issuer: identity.issuer.as_deref(),
            claims: identity.claims.as_deref().and_then(|claims| serde_json::from_str(claims).ok()),
            endpoint: self.endpoint,
            address: self.address,
        };
        // Texts and numbers can always be written as JSON.
        ServiceQuestion::new(subject.as_str(), serde_json::to_vec(&written).unwrap_or_default())
    }
}

/// The answer as it comes. A name that is not here is a mistake of the service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeAnswer {
    allow: bool,
    message: Option<String>,
    cache_s: Option<u64>,
}

/// What an answer of a service says; an error says what is wrong with it.
pub fn read_answer(answer: &[u8]) -> Result<Answer<SubscribeDecision>, String> {
    check_size(answer)?;
    let bytes = answer.len();
    let answer: SubscribeAnswer = serde_json::from_slice(answer).map_err(|error| unreadable(&error))?;
    let keep = keep(answer.cache_s)?;
    let value = match (answer.allow, answer.message) {
        (true, None) => SubscribeDecision::Allowed,
        (true, Some(_)) => return Err("it allows, and has a `message` for a refusal".to_owned()),
        (false, message) => {
            let message = message.unwrap_or_default();
            SubscribeDecision::Refused(refusal(&message, "this identity may not subscribe to this channel"))
        }
    };
    Ok(Answer { value, keep, bytes })
}
