//! Metrics of rounds, their summaries over all rounds, and the table that compares several targets.

use std::fmt::Write as _;

/// One kind of measured value, and how tables show it.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// The name in JSON, with the unit as suffix.
    pub name: &'static str,
    /// The row heading in tables, with the unit. A leading `- ` marks a part of the row above.
    pub title: &'static str,
    /// Number of decimal places.
    pub digits: usize,
    /// Whether the table shows the ratio between targets.
    pub has_ratio: bool,
}

impl Metric {
    /// A metric for which the table shows ratios between targets.
    pub const fn compared(name: &'static str, title: &'static str, digits: usize) -> Self {
        Self { name, title, digits, has_ratio: true }
    }

    /// A metric without ratios.
    pub const fn plain(name: &'static str, title: &'static str, digits: usize) -> Self {
        Self { name, title, digits, has_ratio: false }
    }
}

/// The results of one measurement of one target.
#[derive(Clone, Debug, Default)]
pub struct Round {
    pub metrics: Vec<(&'static Metric, f64)>,
    /// Statements that must hold, and whether they do.
    pub expectations: Vec<(String, bool)>,
    /// Sentences for readers of the table, such as why a metric is missing.
    pub notes: Vec<String>,
}

impl Round {
    /// Adds a value. Infinities and NaN, which come from a division by zero, are left out.
    pub fn add(&mut self, metric: &'static Metric, value: f64) {
        if value.is_finite() {
            self.metrics.push((metric, value));
        }
    }

    /// Adds a statement that must hold, and whether it does.
    pub fn expect(&mut self, what: impl Into<String>, holds: bool) {
        self.expectations.push((what.into(), holds));
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub fn value(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(metric, _)| metric.name == name).map(|(_, value)| *value)
    }
}

/// All rounds of one target.
#[derive(Clone, Debug)]
pub struct TargetResults {
    pub target: String,
    pub rounds: Vec<Round>,
}

/// The median, minimum and maximum of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// `None` if there are no numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { median, min, max })
    }
}

impl TargetResults {
    /// The summary of a metric over all rounds. `None` if no round has it.
    pub fn summary(&self, name: &str) -> Option<Summary> {
        Summary::of(self.rounds.iter().filter_map(|round| round.value(name)))
    }

    /// The median of a metric over all rounds. `None` if no round has it.
    pub fn median(&self, name: &str) -> Option<f64> {
        self.summary(name).map(|summary| summary.median)
    }
}

/// Formats a number with this many decimal places, and with commas between groups of three digits.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, rest) =
        text.split_once('.').map_or((&text[..], String::new()), |(w, r)| (w, format!(".{r}")));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{grouped}{rest}")
}

fn cell(summary: Option<Summary>, digits: usize) -> String {
    let Some(Summary { median, min, max }) = summary else { return "–".to_owned() };
    let (low, middle, high) = (number(min, digits), number(median, digits), number(max, digits));
    if low == high { middle } else { format!("{middle} ({low}–{high})") }
}

/// A Markdown table with a row per metric and a column per target: median, minimum and maximum. More columns show the
/// ratio of the first target to each of the others.
pub fn table(title: &str, all: &[TargetResults]) -> String {
    let mut rows = vec![vec![title.to_owned()]];
    rows[0].extend(all.iter().map(|results| results.target.clone()));
    let divisors = all.get(1..).unwrap_or_default();
    rows[0].extend(divisors.iter().map(|results| format!("÷ {}", results.target)));
    let mut metrics: Vec<&'static Metric> = Vec::new();
    for (metric, _) in all.iter().flat_map(|results| &results.rounds).flat_map(|round| &round.metrics) {
        if !metrics.contains(metric) {
            metrics.push(metric);
        }
    }
    for metric in metrics {
        let mut row = vec![metric.title.to_owned()];
        row.extend(all.iter().map(|results| cell(results.summary(metric.name), metric.digits)));
        let first = all.first().and_then(|results| results.median(metric.name));
        row.extend(divisors.iter().map(|results| match (first, results.median(metric.name)) {
            (Some(first), Some(other)) if metric.has_ratio && other > 0.0 => number(first / other, 2),
            _ => String::new(),
        }));
        rows.push(row);
    }
    markdown_table(&rows)
}

/// Formats rows as a Markdown table with aligned columns.
fn markdown_table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).max(3)).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let cell = row.get(column).map(String::as_str).unwrap_or_default();
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if at == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Metric = Metric::compared("cost_us", "cost, µs", 2);
    const COUNT: Metric = Metric::plain("count", "count", 0);

    fn results(target: &str, costs: &[f64]) -> TargetResults {
        let round = |&cost: &f64| Round { metrics: vec![(&COST, cost)], ..Round::default() };
        TargetResults { target: target.to_owned(), rounds: costs.iter().map(round).collect() }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let summary = |numbers: &[f64]| Summary::of(numbers.iter().copied());
        assert_eq!(summary(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(summary(&[4.0, 1.0]), Some(Summary { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(summary(&[5.0]), Some(Summary { median: 5.0, min: 5.0, max: 5.0 }));
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn the_table_shows_medians_spread_and_ratios() {
        let mut all = [results("a", &[1.0, 2.0, 3.0]), results("b", &[4.0])];
        all[0].rounds[0].add(&COUNT, 1_234_567.0);
        all[0].rounds[0].add(&COUNT, f64::NAN);
        let table = table("work", &all);
        let cells: Vec<Vec<_>> =
            table.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
        assert_eq!(cells[0], ["work", "a", "b", "÷ b"]);
        assert_eq!(cells[2], ["cost, µs", "2.00 (1.00–3.00)", "4.00", "0.50"]);
        assert_eq!(cells[3], ["count", "1,234,567", "–", ""]);
        assert_eq!(cells.len(), 4);
    }

    #[test]
    fn numbers_have_commas_between_thousands() {
        let shown = [(0.0, 0), (999.0, 0), (1000.0, 0), (-1_234_567.891, 2), (0.5, 1)];
        let shown = shown.map(|(value, digits)| number(value, digits));
        assert_eq!(shown, ["0", "999", "1,000", "-1,234,567.89", "0.5"]);
    }
}
