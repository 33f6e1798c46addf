//! `Finding`: one line of the report of `tidegate check --connect`.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub text: String,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// It could not be tested.
    Untested {
        help: String,
    },
    /// The node starts, but something may not work as expected, or is open to others.
    Warning {
        help: String,
    },
    Failed {
        help: String,
    },
}

impl Finding {
    pub(super) fn passed(text: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Passed }
    }

    pub(super) fn untested(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Untested { help: help.into() } }
    }

    pub(super) fn warning(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Warning { help: help.into() } }
    }

    pub(super) fn failed(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Failed { help: help.into() } }
    }
}
