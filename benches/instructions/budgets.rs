//! Budgets: how many instructions each workload may cost, from `docs/benchmarks/instructions.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A cost this many percent above `agreed` fails the check.
const MAX_STEP_PERCENT: u64 = 3;
/// A cost this many percent above `original` fails the check too, however many steps it took.
const MAX_TOTAL_PERCENT: u64 = 5;

const HEAD: &str = "\
# Instructions of one publication through lane, hub and outboxes, counted by callgrind. `make bench-check` fails if a
# workload costs 3 % more than `agreed`, or 5 % more than `original`, however many steps it took. `original` is the cost at
# commit e692b57. `make bench-agree` writes `agreed`; `original` is edited by hand. Measured with the toolchain of
# rust-toolchain.toml on x86_64 with AVX2 and glibc 2.36. The core is a crate, and builds optimise across crates, as
# releases do; that saved 0 to 17 % of each cost, and each `original` is scaled accordingly.
";

#[derive(Clone, Copy, Deserialize)]
struct Budget {
    original: u64,
    agreed: u64,
}

/// The budget of each workload, by name.
pub(crate) struct Budgets(BTreeMap<String, Budget>);

impl Budgets {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        Self(toml::from_str(&text).unwrap())
    }

    pub(crate) fn set_agreed(&mut self, name: &str, publication: u64) {
        let budget = self.0.entry(name.to_owned()).or_insert(Budget { original: publication, agreed: 0 });
        budget.agreed = publication;
    }

    pub(crate) fn write(&self) {
        let table = |(name, budget): (&String, &Budget)| {
            format!("\n[{name}]\noriginal = {}\nagreed = {}\n", budget.original, budget.agreed)
        };
        std::fs::write(path(), HEAD.to_owned() + &self.0.iter().map(table).collect::<String>()).unwrap();
    }

    /// The change of a cost against `agreed` and against `original`, in percent.
    pub(crate) fn change(&self, name: &str, publication: u64) -> [String; 2] {
        let Some(budget) = self.0.get(name) else { return ["new".to_owned(), "new".to_owned()] };
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
        let Some(Budget { original, agreed }) = self.0.get(name) else {
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
