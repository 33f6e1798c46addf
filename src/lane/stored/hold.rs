//! `Hold`: the messages that wait while a feed reads from its stream, as many as fit.

use std::collections::VecDeque;

use crate::lane::stored::messages::HoldLimits;
use crate::lane::stored::messages::LiveMessage;

#[derive(Debug)]
pub(super) struct Hold<M> {
    limits: HoldLimits,
    messages: VecDeque<(LiveMessage<M>, usize)>,
    bytes: usize,
    /// The sequence of the first message that found no room. Those behind it are not kept either, so that the others
    /// stay in order.
    dropped_from: Option<u64>,
}

impl<M> Hold<M> {
    pub(super) fn new(limits: HoldLimits) -> Self {
        Self { limits, messages: VecDeque::new(), bytes: 0, dropped_from: None }
    }

    /// Adds a message, with its size in bytes. Without room it is dropped: the stream has it.
    pub(super) fn push(&mut self, live: LiveMessage<M>, size: usize) {
        let is_full = self.messages.len() >= self.limits.messages || self.bytes + size > self.limits.bytes;
        if is_full || self.dropped_from.is_some() {
            return self.note_dropped(live.message.seq);
        }
        self.bytes += size;
        self.messages.push_back((live, size));
    }

    /// Messages from this sequence on would follow, and were dropped.
    pub(super) fn note_dropped(&mut self, from: u64) {
        self.dropped_from.get_or_insert(from);
    }

    /// Removes and returns the messages, and the sequence of the first one that is missing behind them.
    pub(super) fn take(&mut self) -> (VecDeque<(LiveMessage<M>, usize)>, Option<u64>) {
        self.bytes = 0;
        (std::mem::take(&mut self.messages), self.dropped_from.take())
    }

    /// The sequence of the first message, or of the first that found no room.
    pub(super) fn first_seq(&self) -> Option<u64> {
        self.messages.front().map(|(live, _)| live.message.seq).or(self.dropped_from)
    }

    pub(super) fn clear(&mut self) {
        self.take();
    }
}
