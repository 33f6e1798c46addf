//! `RequestCounts`: how many requests were answered, by route, method and status.

use std::sync::OnceLock;

use crate::node::shared_counter::SharedCounter;

/// The most combinations that are counted apart. Further ones are counted as `other`: a vocabulary may have many routes,
/// and a reload may bring others.
const COMBINATIONS: usize = 4096;

/// The methods that are counted by their name.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const OTHER: &str = "other";

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The template of the path, or `other`.
    pub route: Box<str>,
    pub method: &'static str,
    /// The HTTP status; 0 for all beyond the combinations that are counted apart.
    pub status: u16,
}

/// The counts of all threads. Requests are few, compared with publications.
#[derive(Debug)]
pub struct RequestCounts {
    known: Box<[(OnceLock<RequestKey>, SharedCounter)]>,
    others: SharedCounter,
}

impl Default for RequestCounts {
    fn default() -> Self {
        let known = (0..COMBINATIONS).map(|_| (OnceLock::new(), SharedCounter::default())).collect();
        Self { known, others: SharedCounter::default() }
    }
}

impl RequestCounts {
    /// Counts a request that was answered with this status. `route` is the template of its path, never the path itself.
    pub fn count(&self, route: &str, method: &str, status: u16) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        let is_it = |key: &RequestKey| key.status == status && key.method == method && *key.route == *route;
        let own = self
            .known
            .iter()
            .find(|(key, _)| is_it(key.get_or_init(|| RequestKey { route: route.into(), method, status })));
        own.map_or(&self.others, |(_, counter)| counter).count();
    }

    /// Each combination that was counted, and how often.
    pub fn all(&self) -> impl Iterator<Item = (RequestKey, u64)> {
        let known = self.known.iter().map_while(|(key, counter)| Some((key.get()?.clone(), counter.get())));
        let others = Some(self.others.get()).filter(|count| *count > 0);
        known.chain(others.map(|count| (RequestKey { route: OTHER.into(), method: OTHER, status: 0 }, count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_combination_is_counted_for_itself_and_their_number_is_bounded() {
        let counts = RequestCounts::default();
        for (route, method, status) in
            [("/a/{b}", "GET", 200), ("/a/{b}", "GET", 404), ("/a/{b}", "BREW", 200), ("/a/{b}", "GET", 200)]
        {
            counts.count(route, method, status);
        }
        let all = |counts: &RequestCounts| -> Vec<_> {
            counts.all().map(|(key, count)| (key.route, key.method, key.status, count)).collect()
        };
        let expected = [
            ("/a/{b}".into(), "GET", 200, 2),
            ("/a/{b}".into(), "GET", 404, 1),
            ("/a/{b}".into(), "other", 200, 1),
        ];
        assert_eq!(all(&counts), expected);
        for number in 0..COMBINATIONS {
            counts.count(&format!("/{number}"), "GET", 200);
        }
        let all = all(&counts);
        assert_eq!((all.len(), &all[COMBINATIONS]), (COMBINATIONS + 1, &("other".into(), "other", 0, 3)));
    }
}
