//! Checks that the figures of README.md and BENCHMARKS.md are those of the last runs.

use crate::read;
use crate::rows;

/// The cells of one row of a workload's table, by the headings of the columns.
fn cells(workload: &str, row: &str) -> Vec<(String, String)> {
    let page = read("docs/benchmarks/RESULTS.md");
    let table = page.split("\n## ").find_map(|part| part.strip_prefix(&format!("{workload}\n")));
    let table = table.unwrap_or_else(|| panic!("there is no workload {workload}"));
    let headings = table.lines().find(|line| line.starts_with('|')).unwrap_or_default();
    let headings = headings.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
    let found = rows(table).into_iter().find(|cells| cells[0] == row);
    headings.zip(found.unwrap_or_else(|| panic!("{workload} has no row {row}"))).collect()
}

/// The median of one cell: what is in front of the least and the greatest value.
fn median(workload: &str, row: &str, column: &str) -> String {
    let cells = cells(workload, row);
    let found = cells.iter().find(|(heading, _)| heading == column);
    let (_, cell) = found.unwrap_or_else(|| panic!("{workload} has no column {column}"));
    cell.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn the_figures_of_readme_are_those_of_the_benchmarks() {
    let readme = read("README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let ratio = |workload| median(workload, "CPU µs per delivery", "÷ nats-server");
    let memory = |server| median("idle-shared", "memory per socket, bytes", server);
    for sentence in [
        format!(
            "together use {} × the CPU per delivery of nats-server's listener while 64 publications are in flight, \
             and {} × with one in flight",
            ratio("fanout-64"),
            ratio("fanout-1"),
        ),
        format!("an idle socket takes {} bytes instead of {}", memory("tidegate"), memory("nats-server")),
        format!("with a subject for each of 5,000 sockets, the CPU per delivery is {} ×", ratio("private")),
    ] {
        assert!(
            readme.contains(&sentence),
            "README.md has other figures than docs/benchmarks/RESULTS.md: {sentence}"
        );
    }
}

#[test]
fn the_instructions_of_the_benchmarks_are_the_agreed_ones() {
    let page = read("docs/BENCHMARKS.md");
    let budgets: toml::Table = read("docs/benchmarks/instructions.toml").parse().unwrap();
    for (workload, budget) in &budgets {
        let row = rows(&page).into_iter().find(|row| row.len() == 4 && row[0] == format!("`{workload}`"));
        let row = row.unwrap_or_else(|| panic!("docs/BENCHMARKS.md has no row for {workload}"));
        let agreed = budget["agreed"].as_integer().unwrap();
        assert_eq!(row[2].replace(',', ""), agreed.to_string(), "the instructions of {workload}");
    }
}
