//! Route: which rules render the publications of a subscription, and their number in frame formats.

use tidegate_protocol::frame::RouteId;
use tidegate_protocol::json::paths::JsonPaths;

/// A path of a vocabulary, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathIndex(pub u16);

/// A rule for publications, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliverIndex(pub u16);

/// Which rules render the publications of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The rules of the client's path: for each publication the first one that matches.
    Path(PathIndex),
    /// This rule alone. It matches every publication of the channel.
    Deliver(DeliverIndex),
}

/// Set in the number of [`Route::Deliver`]. A file has far fewer rules.
const DELIVER: u16 = 0x8000;

impl From<Route> for RouteId {
    fn from(route: Route) -> Self {
        match route {
            Route::Path(PathIndex(path)) => Self(path),
            Route::Deliver(DeliverIndex(rule)) => Self(DELIVER | rule),
        }
    }
}

impl From<RouteId> for Route {
    fn from(RouteId(number): RouteId) -> Self {
        if number & DELIVER == 0 {
            Self::Path(PathIndex(number))
        } else {
            Self::Deliver(DeliverIndex(number & !DELIVER))
        }
    }
}

/// For each route, the parts of payloads that its rules read.
#[derive(Debug, Default)]
pub(crate) struct PayloadPaths {
    pub(crate) by_path: Box<[JsonPaths]>,
    pub(crate) by_rule: Box<[JsonPaths]>,
}

impl PayloadPaths {
    /// Those of one route.
    pub(crate) fn get(&self, route: Route) -> Option<&JsonPaths> {
        match route {
            Route::Path(PathIndex(path)) => self.by_path.get(usize::from(path)),
            Route::Deliver(DeliverIndex(rule)) => self.by_rule.get(usize::from(rule)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_the_same_behind_its_number() {
        for number in [0, 1, 255, DELIVER - 1] {
            for route in [Route::Path(PathIndex(number)), Route::Deliver(DeliverIndex(number))] {
                assert_eq!(Route::from(RouteId::from(route)), route);
            }
        }
    }
}
