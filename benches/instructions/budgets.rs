//! Budgets: how many instructions each workload may cost, from `docs/benchmarks/instructions.toml`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde::Deserialize;

/// A cost this many percent above `agreed` fails the check.
const MAX_STEP_PERCENT: u64 = 3;
/// A cost this many percent above `original` fails the check too, however many steps it took.
const MAX_TOTAL_PERCENT: u64 = 5;

#[derive(Clone, Copy, Deserialize)]
struct Budget {
    original: u64,
    agreed: u64,
}

/// The budget of each workload, by name.
pub(crate) struct Budgets {
    text: String,
    by_name: BTreeMap<String, Budget>,
}

impl Budgets {
    pub(crate) fn read() -> Self {
        Self::parse(std::fs::read_to_string(path()).unwrap())
    }

    fn parse(text: String) -> Self {
        let by_name = toml::from_str(&text).unwrap();
        Self { text, by_name }
    }

    /// Writes an agreed cost into the text, whose comments stay.
    pub(crate) fn set_agreed(&mut self, name: &str, publication: u64) {
        let mut text = String::new();
        let (mut section, mut is_written) = ("", false);
        for line in self.text.lines() {
            section = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap_or(section);
            if section == name && line.starts_with("agreed = ") {
                writeln!(text, "agreed = {publication}").unwrap();
                is_written = true;
            } else {
                writeln!(text, "{line}").unwrap();
            }
        }
        if !is_written {
            write!(text, "\n[{name}]\noriginal = {publication}\nagreed = {publication}\n").unwrap();
        }
        *self = Self::parse(text);
    }

    pub(crate) fn write(&self) {
        std::fs::write(path(), &self.text).unwrap();
    }

    /// The change of a cost against `agreed` and against `original`, in percent.
    pub(crate) fn change(&self, name: &str, publication: u64) -> [String; 2] {
        let Some(budget) = self.by_name.get(name) else { return ["new".to_owned(), "new".to_owned()] };
        [budget.agreed, budget.original].map(|limit| {
            let (publication, limit) = (i64::try_from(publication).unwrap(), i64::try_from(limit).unwrap());
            let per_mille = (publication - limit) * 1000 / limit;
            format!(
                "{}{}.{} %",
                if per_mille < 0 { "−" } else { "+" },
                per_mille.abs() / 10,
                per_mille.abs() % 10
            )
        })
    }

    /// The error message for a cost that is over budget. `None` if it is within.
    pub(crate) fn excess(&self, name: &str, publication: u64) -> Option<String> {
        let Some(Budget { original, agreed }) = self.by_name.get(name) else {
            return Some(format!("{name}: has no budget yet; `make bench-agree` writes it"));
        };
        for (limit, which, percent) in [
            (agreed, "are agreed", MAX_STEP_PERCENT),
            (original, "were the original cost", MAX_TOTAL_PERCENT),
        ] {
            if publication * 100 > limit * (100 + percent) {
                return Some(format!(
                    "{name}: a publication costs {publication} instructions; {limit} {which}, and at most {percent} % \
                     more are allowed"
                ));
            }
        }
        None
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks/instructions.toml")
}
