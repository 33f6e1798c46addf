//! Errand: what a shard is asked to do for others than its own connections.

use std::sync::Arc;

use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::identity::Identity;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::oneshot;

use crate::node::call_limiter::Caller;

/// What is asked, and where the answer goes.
#[derive(Debug)]
pub enum ShardJob {
    /// What a session says to the one message that it gets.
    Message { message: OneMessage, answer: oneshot::Sender<Vec<Frame>> },
    /// Statistics of a vocabulary here, in pieces.
    Statistics {
        vocabulary: u16,
        described: Arc<CompiledVocabulary>,
        with_names: bool,
        answer: oneshot::Sender<Vec<Statistics>>,
    },
}

/// A message, whose it is, and how it is read and answered.
#[derive(Debug)]
pub struct OneMessage {
    /// Who calls.
    pub identity: Arc<Identity>,
    /// Whose turn it takes where many ask for what other nodes know.
    pub caller: Caller,
    /// What reads the message and writes the answer.
    pub dialect: Arc<dyn Dialect>,
    /// The message.
    pub text: String,
}
