//! The keys that a configuration may have, and the keys of earlier versions that have a new name.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Keys of earlier versions and their names now, written as in [`KnownKeys`]. A configuration with an old key is
/// rejected, and the error names the new key.
pub(super) const RENAMED_KEYS: [(&str, &str); 7] = [
    ("auth.max_lifetime_s", "auth.max_token_lifetime_s"),
    ("endpoint[].believe", "endpoint[].trust_client_identity"),
    ("endpoint[].http_role", "endpoint[].anonymous_http_role"),
    ("endpoint[].trust_client_identity.call", "endpoint[].trust_client_identity.http_user"),
    ("limits.expiring_s", "limits.expiry_warning_s"),
    ("limits.lane_questions", "limits.lane_requests"),
    ("server.linger_ms", "server.feed_linger_ms"),
];

/// The new name of a key of an earlier version.
pub(super) fn renamed(key: &str) -> Option<&'static str> {
    RENAMED_KEYS.iter().find(|(old, _)| *old == key).map(|(_, new)| *new)
}

/// All keys, as paths with `[]` for the elements of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownKeys {
    /// With the range of each number.
    ranges: BTreeMap<String, Option<RangeInclusive<u64>>>,
    /// Those whose values no one may see.
    secrets: BTreeSet<String>,
}

impl KnownKeys {
    /// `range` is for numbers only.
    pub(super) fn insert(&mut self, key: String, range: Option<RangeInclusive<u64>>) {
        self.ranges.insert(key, range);
    }

    pub(super) fn insert_secret(&mut self, key: String) {
        self.secrets.insert(key);
    }

    /// Whether no one may see the value of this key.
    pub(super) fn is_secret(&self, key: &str) -> bool {
        self.secrets.contains(key)
    }

    /// The keys of lists of tables that are in no other such list, such as `role`. One may be named several times.
    pub(super) fn lists(&self) -> impl Iterator<Item = &str> {
        self.ranges.keys().filter_map(|key| key.split_once("[]")).map(|(list, _)| list)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.ranges.keys().map(String::as_str).collect()
    }

    /// Whether a variable or a flag can set this key: it exists, and is not in a list of tables.
    pub(super) fn can_be_set(&self, key: &str) -> bool {
        self.ranges.contains_key(key) && !key.contains('[')
    }

    #[cfg(test)]
    pub(super) fn ranges(&self) -> Vec<(String, RangeInclusive<u64>)> {
        self.ranges.iter().filter_map(|(key, range)| Some((key.clone(), range.clone()?))).collect()
    }
}
