//! Writes the results to `docs/BENCHMARKS.md`, between two markers. The rest of the page is written by hand.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::charts;
use crate::machine::Machine;
use crate::report;
use crate::report::Outcome;

const BEGIN: &str = "<!-- results -->";
const END: &str = "<!-- /results -->";

/// Replaces the results in the folder's `BENCHMARKS.md`, and writes the charts and `results.json` to its folder
/// `benchmarks`.
pub fn write(
    folder: &Path,
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
) -> anyhow::Result<()> {
    let file = folder.join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let charts_folder = folder.join("benchmarks");
    std::fs::create_dir_all(&charts_folder)?;
    let mut drawn = Vec::new();
    for (name, title, svg) in charts::all(outcomes) {
        std::fs::write(charts_folder.join(format!("{name}.svg")), svg)?;
        drawn.push((name, title));
    }
    let json = report::json(command, machine, outcomes, expectations);
    std::fs::write(charts_folder.join("results.json"), json)?;
    let results = results(command, machine, outcomes, expectations, &drawn);
    let text = replace_results(&text, &results)
        .with_context(|| format!("{} needs a line {BEGIN} and, below it, a line {END}", file.display()))?;
    std::fs::write(&file, text)?;
    Ok(())
}

/// The text between the markers.
fn results(
    command: &str,
    machine: &Machine,
    outcomes: &[Outcome],
    expectations: &[(String, bool)],
    drawn: &[(&str, &str)],
) -> String {
    let mut text = format!(
        "Written by `{command}`: {}. All rounds are in [benchmarks/results.json](benchmarks/results.json). Each \
         cell shows the median of the rounds, with the minimum and maximum in parentheses if they differ.\n",
        machine.line()
    );
    for (name, title) in drawn {
        let _ = write!(text, "\n![{title}](benchmarks/{name}.svg)\n");
    }
    text.push_str("\n### Goals\n\n| | goal and result |\n|---|---|\n");
    for (what, holds) in expectations {
        let _ = writeln!(text, "| {} | {what} |", if *holds { "holds" } else { "**does not hold**" });
    }
    for outcome in outcomes {
        let _ = write!(text, "\n### {}\n\n{}", outcome.name, outcome.table());
    }
    text
}

/// Replaces the text between the markers. `None` if a marker is missing.
fn replace_results(text: &str, results: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{results}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let text = "# A\n\n<!-- results -->\nold\n<!-- /results -->\n\nB\n";
        let new = replace_results(text, "new\n").unwrap();
        assert_eq!(new, "# A\n\n<!-- results -->\nnew\n<!-- /results -->\n\nB\n");
        assert_eq!(replace_results(&new, "new\n").unwrap(), new);
        assert_eq!(replace_results("# A\n<!-- results -->\n", "new"), None);
        assert_eq!(replace_results("# A\n<!-- /results -->\n<!-- results -->", "new"), None);
    }
}
