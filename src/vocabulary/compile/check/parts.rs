//! Parts: what was compiled of a vocabulary's file and where it stands there, for checks to look at.

use crate::protocol::subject::Pattern;
use crate::vocabulary::model::Call;
use crate::vocabulary::model::PathRule;
use crate::vocabulary::model::Rule;
use crate::vocabulary::model::Show;
use crate::vocabulary::model::Test;
use crate::vocabulary::source::Location;
use crate::vocabulary::source::Section;

/// A rule that could be read.
#[derive(Debug)]
pub(in crate::vocabulary::compile) struct PlacedRule {
    pub(in crate::vocabulary::compile) rule: Rule,
    /// Where it stands.
    pub(in crate::vocabulary::compile) location: Location,
    /// Its key that names channels or a subject.
    pub(in crate::vocabulary::compile) names: &'static str,
    /// For which paths it holds.
    pub(in crate::vocabulary::compile) paths: Vec<u16>,
    /// Whether messages come to it; if not, it is done when a client has come in.
    pub(in crate::vocabulary::compile) is_received: bool,
    /// What covers the channels that it can subscribe to.
    pub(in crate::vocabulary::compile) channels: Vec<Pattern>,
}

impl PlacedRule {
    /// A rule that stands in this section.
    /// `channels` covers what it can subscribe to.
    pub(in crate::vocabulary::compile) fn new(
        rule: Rule,
        channels: Vec<Pattern>,
        section: &Section<'_>,
        paths: &[u16],
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
pub(in crate::vocabulary::compile) struct PlacedShow {
    pub(in crate::vocabulary::compile) show: Show,
    /// Where it stands.
    pub(in crate::vocabulary::compile) location: Location,
    /// For which paths it holds.
    pub(in crate::vocabulary::compile) paths: Vec<u16>,
    /// What it shows of `{sub.…}`.
    pub(in crate::vocabulary::compile) kept: Vec<Box<str>>,
}

/// What was compiled.
pub(in crate::vocabulary::compile) struct Parts<'p> {
    pub(in crate::vocabulary::compile) paths: &'p [PathRule],
    pub(in crate::vocabulary::compile) rules: &'p [PlacedRule],
    pub(in crate::vocabulary::compile) shows: &'p [PlacedShow],
    pub(in crate::vocabulary::compile) calls: &'p [Call],
    pub(in crate::vocabulary::compile) pong: Option<&'p [Test]>,
}

impl Parts<'_> {
    pub(super) fn path_name(&self, path: u16) -> &str {
        self.paths.get(usize::from(path)).map_or("", |path| &path.name)
    }
}
