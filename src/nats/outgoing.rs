//! A message to publish, and the server's answers to published messages.

use tidegate_protocol::trace_context::TRACEPARENT;
use tidegate_protocol::trace_context::TraceParent;

#[derive(Clone, Copy, Debug)]
pub(super) struct OutgoingMessage<'m> {
    pub(super) subject: &'m str,
    pub(super) reply: Option<&'m str>,
    pub(super) headers: &'m [(&'m str, &'m str)],
    pub(super) data: &'m [u8],
}

impl<'m> OutgoingMessage<'m> {
    /// A message without headers.
    pub(super) fn plain(subject: &'m str, data: &'m [u8]) -> Self {
        Self { subject, reply: None, headers: &[], data }
    }

    /// The trace that it belongs to.
    pub(super) fn trace(&self) -> Option<TraceParent> {
        let (_, value) = self.headers.iter().find(|(name, _)| *name == TRACEPARENT)?;
        TraceParent::parse(value)
    }
}

/// What the server says about published messages. A denial comes before the confirmation of its `PING`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Confirmation {
    /// The user may not publish to this subject; `None` if the subject cannot be parsed.
    Denied(Option<String>),
    /// The server has read everything before the `PING` of this number.
    Confirmed(u64),
}
