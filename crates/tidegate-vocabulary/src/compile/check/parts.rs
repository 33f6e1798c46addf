//! Parts: compiled parts of a vocabulary with their places in the file, for checks.

use tidegate_document::section::Location;
use tidegate_document::section::Section;
use tidegate_protocol::subject::Pattern;

use crate::model::DeliverRule;
use crate::model::HttpRoute;
use crate::model::MessageTest;
use crate::model::PathRule;
use crate::model::Rule;
use crate::route::PathIndex;

/// A rule for messages.
#[derive(Debug)]
pub(in crate::compile) struct PlacedRule {
    pub(in crate::compile) rule: Rule,
    pub(in crate::compile) location: Location,
    /// The key of its channels or subject.
    pub(in crate::compile) names: &'static str,
    /// The paths to which it belongs.
    pub(in crate::compile) paths: Vec<PathIndex>,
    /// Whether it is a `[[receive]]`. Otherwise it is a `[[path.on_connect]]`.
    pub(in crate::compile) is_received: bool,
    /// Patterns that cover the channels to which it can subscribe.
    pub(in crate::compile) channels: Vec<Pattern>,
}

impl PlacedRule {
    /// A rule from this section. `channels` covers the channels to which it can subscribe.
    pub(in crate::compile) fn new(
        rule: Rule,
        channels: Vec<Pattern>,
        section: &Section<'_>,
        paths: &[PathIndex],
        is_received: bool,
    ) -> Self {
        let names = ["channels", "subject"].into_iter().find(|name| section.get(name).is_some());
        Self {
            channels,
            rule,
            location: section.location().clone(),
            names: names.unwrap_or("channel"),
            paths: paths.to_vec(),
            is_received,
        }
    }
}

/// A rule for publications.
#[derive(Debug)]
pub(in crate::compile) struct PlacedDeliverRule {
    pub(in crate::compile) rule: DeliverRule,
    pub(in crate::compile) location: Location,
    /// The paths to which it belongs.
    pub(in crate::compile) paths: Vec<PathIndex>,
    /// The names of its `{sub.…}`.
    pub(in crate::compile) kept: Vec<Box<str>>,
}

/// A kind of HTTP request.
#[derive(Debug)]
pub(in crate::compile) struct PlacedRoute {
    pub(in crate::compile) route: HttpRoute,
    pub(in crate::compile) location: Location,
}

/// All parts of a vocabulary.
pub(in crate::compile) struct Parts<'p> {
    pub(in crate::compile) paths: &'p [PathRule],
    pub(in crate::compile) rules: &'p [PlacedRule],
    pub(in crate::compile) deliver_rules: &'p [PlacedDeliverRule],
    pub(in crate::compile) http_routes: &'p [PlacedRoute],
    pub(in crate::compile) pong: Option<&'p [MessageTest]>,
    /// Patterns that cover the channels of rules that are off.
    pub(in crate::compile) off_channels: &'p [Pattern],
}

impl Parts<'_> {
    pub(super) fn path_name(&self, path: PathIndex) -> &str {
        self.paths.get(usize::from(path.0)).map_or("", |path| &path.name)
    }
}
