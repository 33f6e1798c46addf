//! Figures: the file with what each workload may cost, and what is said when one costs more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// So much more than agreed, in percent, is a mistake.
const STEP: u64 = 3;
/// So much more than at first is one too, in however many steps it came.
const ALL_STEPS: u64 = 5;

const HEAD: &str = "\
# Instructions of one publication through lane, hub and outboxes, counted by callgrind: `make bench-check` holds the code to
# them. `now` is what is agreed: 3 % more fails. `first` is where it began (commit e692b57): 5 % more fails, in however many
# steps. `make bench-agree` writes `now`; `first` changes by hand. Measured with the toolchain of rust-toolchain.toml on
# x86_64 with AVX2 and glibc 2.36.
";

#[derive(Clone, Copy, Deserialize)]
struct Figure {
    first: u64,
    now: u64,
}

/// What each workload may cost.
pub(crate) struct SessionStats(BTreeMap<String, Figure>);

impl SessionStats {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        Self(toml::from_str(&text).unwrap())
    }

    pub(crate) fn set(&mut self, name: &str, publication: u64) {
        let figure = self.0.entry(name.to_owned()).or_insert(Figure { first: publication, now: 0 });
        figure.now = publication;
    }

    pub(crate) fn write(&self) {
        let table = |(name, figure): (&String, &Figure)| {
            format!("\n[{name}]\nfirst = {}\nnow = {}\n", figure.first, figure.now)
        };
        std::fs::write(path(), HEAD.to_owned() + &self.0.iter().map(table).collect::<String>()).unwrap();
    }

    /// How much more it is than agreed and than at first, in percent.
    pub(crate) fn change(&self, name: &str, publication: u64) -> [String; 2] {
        let Some(figure) = self.0.get(name) else { return ["new".to_owned(), "new".to_owned()] };
        [figure.now, figure.first].map(|than| {
            let (publication, than) = (i64::try_from(publication).unwrap(), i64::try_from(than).unwrap());
            let per_mille = (publication - than) * 1000 / than;
            format!(
                "{}{}.{} %",
                if per_mille < 0 { "−" } else { "+" },
                per_mille.abs() / 10,
                per_mille.abs() % 10
            )
        })
    }

    /// Why that is too much, if it is.
    pub(crate) fn mistake(&self, name: &str, publication: u64) -> Option<String> {
        let Some(Figure { first, now }) = self.0.get(name) else {
            return Some(format!("{name}: has no figures yet; `make bench-agree` writes them"));
        };
        for (than, word, percent) in [(now, "as agreed", STEP), (first, "as at first", ALL_STEPS)] {
            if publication * 100 > than * (100 + percent) {
                return Some(format!(
                    "{name}: a publication costs {publication} instructions; {than} {word}, and {percent} % more are \
                     too many"
                ));
            }
        }
        None
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks/instructions.toml")
}
