//! What the pages of the admin listener share: how they read parameters, and the error for a wrong one.

use std::time::Duration;

use tidegate_document::quote::plain;
use tidegate_protocol::url;
use warp::http::StatusCode;

use crate::http::problem::Problem;

/// The entries of a list on one page, unless `limit` says how many.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// The most entries that may be skipped: each shard reports all of them, and they are merged.
const MAX_OFFSET: usize = 10_000;

/// Which entries of a list are shown: the parameters `limit` and `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListPage {
    /// How many are shown, at most.
    pub(super) limit: usize,
    /// How many are skipped before them.
    pub(super) offset: usize,
}

impl Default for ListPage {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, offset: 0 }
    }
}

impl ListPage {
    /// Takes a parameter if it is one of these two. Returns whether it is.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "limit" => self.limit = number("limit", value, 1, MAX_LIMIT)?,
            "offset" => self.offset = number("offset", value, 0, MAX_OFFSET)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How many entries are shown and skipped, at most.
    pub(super) fn most(self) -> usize {
        self.limit + self.offset
    }

    /// The shown ones of a list from its beginning.
    pub(super) fn of<T>(self, list: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        list.into_iter().skip(self.offset).take(self.limit)
    }
}

/// The parameters of a query with their values, in order. Parameters without a name are skipped.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = Result<(String, String), Problem>> {
    url::query_pairs(query).filter(|(name, _)| !name.is_empty()).map(|(name, value)| match value {
        Some(value) => Ok((name, value)),
        None => Err(bad(format!("the value of `{}` is not valid UTF-8", plain(&name)))),
    })
}

/// The error for a parameter that a page does not have. `known` lists those that it has.
pub(super) fn unknown(name: &str, known: &str) -> Problem {
    bad(format!("there is no parameter {}: use {known}", plain(name)))
}

/// A whole number.
fn number(name: &str, value: &str, least: usize, most: usize) -> Result<usize, Problem> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| bad(format!("`{name}` is not a whole number from {least} to {most}")))
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The answer to a request that a page cannot understand.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
}
