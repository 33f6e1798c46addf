//! Figures: what statistics may say of one session.

use std::sync::Arc;

use crate::frame::VocabularyId;
use crate::session::Session;

/// What statistics may say of one session whose vocabulary a file describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStats {
    /// The name of its path.
    pub path: Box<str>,
    /// Who it is, once that is known.
    pub user: Option<Arc<str>>,
    /// What it is called, if the vocabulary has a name for it.
    pub label: Option<String>,
    /// Its groups that have names, and what each holds: of a channel the token at the first wildcard of the rule that
    /// shows it.
    pub groups: Vec<(Box<str>, Vec<String>)>,
}

impl Session {
    /// What statistics of this vocabulary may say of the session; `with_names` also who it is and what it watches.
    pub fn figures(&self, vocabulary: VocabularyId, with_names: bool) -> Option<SessionStats> {
        if self.dialect.number() != vocabulary {
            return None;
        }
        let mut figures = SessionStats {
            path: self.dialect.entry()?.into(),
            user: self.user().cloned(),
            label: None,
            groups: Vec::new(),
        };
        if with_names {
            figures.label = self.dialect.label(self.scope());
            for subscription in
                self.subscriptions.iter().filter(|subscription| !subscription.group().is_empty())
            {
                let item = self.dialect.item(&subscription.pattern);
                let group = subscription.group();
                match figures.groups.iter_mut().find(|(known, _)| **known == *group) {
                    Some((_, items)) => items.extend(item),
                    None => figures.groups.push((group.into(), item.into_iter().collect())),
                }
            }
        }
        Some(figures)
    }
}
