//! What statistics may show of one session.

use std::sync::Arc;

use crate::frame::VocabularyId;
use crate::session::Session;

/// What statistics may show of one session of a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStats {
    /// The name of its path.
    pub path: Box<str>,
    /// The user name, once known.
    pub user: Option<Arc<str>>,
    /// The session's label, if the vocabulary defines one.
    pub label: Option<String>,
    /// The named groups, each with its channels: of a channel, the token at the first wildcard of the rule that
    /// renders it.
    pub groups: Vec<(Box<str>, Vec<String>)>,
}

impl Session {
    /// The statistics of the session, if it speaks a vocabulary in one of these versions. The label and groups need `with_names`.
    pub fn stats(&self, versions: &[VocabularyId], with_names: bool) -> Option<SessionStats> {
        if !versions.contains(&self.dialect.number()) {
            return None;
        }
        let mut stats = SessionStats {
            path: self.dialect.path_name()?.into(),
            user: self.user().cloned(),
            label: None,
            groups: Vec::new(),
        };
        if with_names {
            stats.label = self.dialect.label(self.scope());
            for subscription in
                self.subscriptions.iter().filter(|subscription| !subscription.group().is_empty())
            {
                let item = self.dialect.stats_item(&subscription.pattern);
                let group = subscription.group();
                match stats.groups.iter_mut().find(|(known, _)| **known == *group) {
                    Some((_, items)) => items.extend(item),
                    None => stats.groups.push((group.into(), item.into_iter().collect())),
                }
            }
        }
        Some(stats)
    }
}
