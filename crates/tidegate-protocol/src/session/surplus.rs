//! The channels of one message for which a session has no room.

use std::rc::Rc;

use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::list_element::ListElement;
use crate::message::JoinMode;

/// What one message names beyond the limit: elements of its list, or else channels. The client gets one error for all.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    count: usize,
    first: Option<Rc<ListElement>>,
}

impl Surplus {
    /// Counts one more channel. An element counts once.
    pub(crate) fn add(&mut self, element: Option<&Rc<ListElement>>) {
        if element.is_some_and(|element| !element.refuse()) {
            return;
        }
        if let Some(element) = element
            && self.first.as_ref().is_none_or(|first| element.number < first.number)
        {
            self.first = Some(Rc::clone(element));
        }
        self.count += 1;
    }

    /// The error, if there is no room for something.
    pub(crate) fn error(&self, max: usize, joining: JoinMode) -> Option<ClientError> {
        let others = self.count.checked_sub(1)?;
        if joining == JoinMode::Again {
            return Some(ignored(self.count, max));
        }
        let missing = match (&self.first, others) {
            (Some(element), 0) => {
                format!("{element}: a session may have {max} channels, and there is no room for it")
            }
            (Some(element), _) => format!(
                "{element}: a session may have {max} channels, and there is no room for it and {others} more"
            ),
            (None, 0) => format!("a session may have {max} channels, and there is no room for one more"),
            (None, _) => {
                format!("a session may have {max} channels, and there is no room for {} more", self.count)
            }
        };
        let advice = match joining {
            JoinMode::Replace => "nothing has changed",
            JoinMode::Again | JoinMode::Add | JoinMode::Unique => "unsubscribe from others first",
        };
        Some(ClientError::new(ErrorCode::LimitExceeded, format!("{missing}: {advice}")))
    }
}

/// Splits off the names beyond `max`, and returns an error for them.
pub(super) fn split_surplus<T>(mut names: Vec<T>, max: usize) -> (Vec<T>, Option<ClientError>) {
    let surplus = names.len().saturating_sub(max);
    names.truncate(max);
    (names, (surplus > 0).then(|| ignored(surplus, max)))
}

/// The error for names beyond `max`.
pub(super) fn ignored(surplus: usize, max: usize) -> ClientError {
    let message = format!(
        "the message names {surplus} channels more than the {max} that a session may have: they are ignored"
    );
    ClientError::new(ErrorCode::LimitExceeded, message)
}
