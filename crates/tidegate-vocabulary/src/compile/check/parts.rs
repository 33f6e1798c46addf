//! Parts: what was compiled of a vocabulary's file and where it is there, for checks to look at.

use tidegate_document::section::Location;
use tidegate_document::section::Section;
use tidegate_protocol::subject::Pattern;

use crate::model::DeliverRule;
use crate::model::HttpRoute;
use crate::model::PathIndex;
use crate::model::PathRule;
use crate::model::Rule;
use crate::model::Test;

/// A rule that could be read.
#[derive(Debug)]
pub(in crate::compile) struct PlacedRule {
    pub(in crate::compile) rule: Rule,
    /// Where it is.
    pub(in crate::compile) location: Location,
    /// Its key that names channels or a subject.
    pub(in crate::compile) names: &'static str,
    /// For which paths it holds.
    pub(in crate::compile) paths: Vec<PathIndex>,
    /// Whether messages come to it; if not, it is done when a client has come in.
    pub(in crate::compile) is_received: bool,
    /// What covers the channels that it can subscribe to.
    pub(in crate::compile) channels: Vec<Pattern>,
}

impl PlacedRule {
    /// A rule that is in this section.
    /// `channels` covers what it can subscribe to.
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

/// A rule for publications that could be read.
#[derive(Debug)]
pub(in crate::compile) struct PlacedShow {
    pub(in crate::compile) show: DeliverRule,
    /// Where it is.
    pub(in crate::compile) location: Location,
    /// For which paths it holds.
    pub(in crate::compile) paths: Vec<PathIndex>,
    /// What it shows of `{sub.…}`.
    pub(in crate::compile) kept: Vec<Box<str>>,
}

/// What was compiled.
pub(in crate::compile) struct Parts<'p> {
    pub(in crate::compile) paths: &'p [PathRule],
    pub(in crate::compile) rules: &'p [PlacedRule],
    pub(in crate::compile) shows: &'p [PlacedShow],
    pub(in crate::compile) calls: &'p [HttpRoute],
    pub(in crate::compile) pong: Option<&'p [Test]>,
}

impl Parts<'_> {
    pub(super) fn path_name(&self, path: PathIndex) -> &str {
        self.paths.get(usize::from(path.0)).map_or("", |path| &path.name)
    }
}
