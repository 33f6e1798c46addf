//! Parameters of paths: how subjects and `require` use them, and so what values they may have.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::model::HttpIndex;
use crate::model::SubjectParameter;
use crate::route::PathIndex;

/// What the value of a parameter becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ParameterUse {
    /// One token of a subject, or a part of one.
    Token,
    /// One or more tokens of a subject.
    Dotted,
    /// One side of a `require`.
    Compared,
}

/// The `[[path]]` or `[[http]]` to which a parameter belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ParameterOwner {
    Path(PathIndex),
    Http(HttpIndex),
}

/// All uses of the parameters of a file.
#[derive(Debug, Default)]
pub(super) struct ParameterUses(BTreeMap<(ParameterOwner, Box<str>), BTreeSet<ParameterUse>>);

impl ParameterUses {
    pub(super) fn add(&mut self, owners: &[ParameterOwner], name: &str, used: ParameterUse) {
        for owner in owners {
            self.0.entry((*owner, name.into())).or_default().insert(used);
        }
    }

    /// The parameters that become part of subjects. The strictest use decides: if a parameter is one token anywhere, or
    /// is compared, it may have no dots.
    pub(super) fn in_subjects(&self, owners: &[ParameterOwner]) -> Box<[SubjectParameter]> {
        let mut uses: BTreeMap<&str, BTreeSet<ParameterUse>> = BTreeMap::new();
        for ((_, name), used) in self.0.iter().filter(|((owner, _), _)| owners.contains(owner)) {
            uses.entry(name).or_default().extend(used);
        }
        let in_subjects = uses
            .into_iter()
            .filter(|(_, uses)| uses.contains(&ParameterUse::Token) || uses.contains(&ParameterUse::Dotted));
        let parameter = |(name, uses): (&str, BTreeSet<ParameterUse>)| SubjectParameter {
            name: name.into(),
            is_dotted: !uses.contains(&ParameterUse::Token) && !uses.contains(&ParameterUse::Compared),
        };
        in_subjects.map(parameter).collect()
    }
}
