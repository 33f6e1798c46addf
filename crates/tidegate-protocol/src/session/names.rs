//! The channel names of one message.

use std::collections::HashSet;

use crate::error::ClientError;

/// A set of channel names.
pub(super) enum Names<'n> {
    One(&'n str),
    Many(HashSet<&'n str>),
}

impl<'n> Names<'n> {
    pub(crate) fn of(channels: &'n [Result<String, ClientError>]) -> Self {
        Self::all(channels.iter().flatten().map(String::as_str))
    }

    pub(crate) fn all(mut names: impl Iterator<Item = &'n str>) -> Self {
        match (names.next(), names.next()) {
            (Some(one), None) => Self::One(one),
            (one, two) => Self::Many(one.into_iter().chain(two).chain(names).collect()),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => *one == name,
            Self::Many(names) => names.contains(name),
        }
    }
}

/// Removes duplicates and keeps the order.
pub(super) fn deduplicate(channels: Vec<Result<String, ClientError>>) -> Vec<Result<String, ClientError>> {
    if channels.len() < 2 {
        return channels;
    }
    let mut seen = HashSet::with_capacity(channels.len());
    channels.into_iter().filter(|channel| seen.insert(channel.clone())).collect()
}
