//! The results in `docs/BENCHMARKS.md`: everything between two marks is replaced, the rest is a person's.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::charts;
use crate::machine::Machine;
use crate::report;
use crate::report::Outcome;

const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- /results -->";

/// Replaces the results in the folder's `BENCHMARKS.md`, and writes pictures and figures to `benchmarks` in it.
pub fn write(
    folder: &Path,
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
) -> anyhow::Result<()> {
    let file = folder.join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let pictures = folder.join("benchmarks");
    std::fs::create_dir_all(&pictures)?;
    let mut drawn = Vec::new();
    for (name, title, svg) in charts::all(outcomes) {
        std::fs::write(pictures.join(format!("{name}.svg")), svg)?;
        drawn.push((name, title));
    }
    let json = report::json(command, machine, outcomes, expectations);
    std::fs::write(pictures.join("results.json"), json)?;
    let results = results(command, machine, outcomes, expectations, &drawn);
    let text = replaced(&text, &results)
        .with_context(|| format!("{} has no {BEGIN} with {END} behind it", file.display()))?;
    std::fs::write(&file, text)?;
    Ok(())
}

/// What is between the marks.
fn results(
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
    drawn: &[(&str, &str)],
) -> String {
    let mut text = format!(
        "Written by `{command}`: {}. All rounds are in [benchmarks/results.json](benchmarks/results.json). Each \
         cell has the median, and the least and the greatest of the rounds where they differ.\n",
        machine.line()
    );
    for (name, title) in drawn {
        let _ = write!(text, "\n![{title}](benchmarks/{name}.svg)\n");
    }
    text.push_str("\n### Goals\n\n| | goal and figure |\n|---|---|\n");
    for (what, holds) in expectations {
        let _ = writeln!(text, "| {} | {what} |", if *holds { "holds" } else { "**does not hold**" });
    }
    for outcome in outcomes {
        let _ = write!(text, "\n### {}\n\n{}", outcome.name, outcome.table());
    }
    text
}

/// The text with other results.
fn replaced(text: &str, results: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{results}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = "# A\n\n<!-- results -->\nold\n<!-- /results -->\n\nB\n";
        let new = replaced(text, "new\n").unwrap();
        assert_eq!(new, "# A\n\n<!-- results -->\nnew\n<!-- /results -->\n\nB\n");
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert_eq!(replaced("# A\n<!-- results -->\n", "new"), None);
        assert_eq!(replaced("# A\n<!-- /results -->\n<!-- results -->", "new"), None);
    }
}
