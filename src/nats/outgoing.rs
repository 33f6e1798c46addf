//! Outgoing: a message that a link publishes, and what the server says of it.

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'m> {
    pub(super) subject: &'m str,
    pub(super) reply: Option<&'m str>,
    pub(super) headers: &'m [(&'m str, &'m str)],
    pub(super) data: &'m [u8],
}

/// What the server says of what was published. All is said in order: whatever is denied is so in front of the round
/// that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Confirmation {
    /// The connection may not publish to this subject; `None` if it cannot be read.
    Denied(Option<String>),
    /// It has read everything up to the end of this round.
    Seen(u64),
}
