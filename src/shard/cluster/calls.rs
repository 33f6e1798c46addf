//! Calls for statistics, last values and changes of all nodes, as they wait to be sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::oneshot;

use crate::auth::revocation::message::RevocationMessage;
use crate::connection::user_change::UserChange;
use crate::shard::cluster::values::Values;
use crate::shard::job::ChangeAuthor;
use crate::shard::job::Revoked;
use crate::shard::job::UserChanged;

/// Calls that may wait, of each kind.
pub(super) const CALLS: usize = 1024;

/// A call for statistics of a vocabulary.
#[derive(Debug)]
pub(super) struct StatisticsCall {
    pub(super) vocabulary: VocabularyId,
    pub(super) with_names: bool,
    pub(super) answer: oneshot::Sender<Arc<Statistics>>,
}

/// A call for the last values of channels on other nodes.
#[derive(Debug)]
pub(super) struct ValuesCall {
    pub(super) caller: u64,
    pub(super) channels: Vec<Pattern>,
    pub(super) answer: oneshot::Sender<Arc<BTreeMap<Box<str>, Values>>>,
}

/// A call that changes something on all nodes.
#[derive(Debug)]
pub(super) enum ChangeCall {
    /// The sessions of a user.
    User {
        change: UserChange,
        by: Box<ChangeAuthor>,
        answer: oneshot::Sender<Result<UserChanged, ClientError>>,
    },
    /// Credentials or permissions are revoked.
    Revoke {
        message: Box<RevocationMessage>,
        by: Box<ChangeAuthor>,
        answer: oneshot::Sender<Result<Revoked, ClientError>>,
    },
}
