//! Figures of rounds: their medians, their spread, and the table of several targets side by side.

use std::fmt::Write as _;

/// What is measured, and how it is shown.
#[derive(Debug, PartialEq)]
pub struct Figure {
    /// Its name in JSON; the unit comes last.
    pub name: &'static str,
    /// Its name for people, with the unit.
    pub title: &'static str,
    /// Digits behind the point.
    pub digits: usize,
    /// Whether two of them are worth dividing.
    pub ratio: bool,
}

impl Figure {
    /// One whose ratio tells something.
    pub const fn compared(name: &'static str, title: &'static str, digits: usize) -> Self {
        Self { name, title, digits, ratio: true }
    }

    /// One that is just shown.
    pub const fn shown(name: &'static str, title: &'static str, digits: usize) -> Self {
        Self { name, title, digits, ratio: false }
    }
}

/// One measurement of one target.
#[derive(Clone, Debug, Default)]
pub struct Round {
    pub figures: Vec<(&'static Figure, f64)>,
    /// What must hold, and whether it does.
    pub expectations: Vec<(String, bool)>,
}

impl Round {
    /// Adds a figure. What could not be measured (a division by nothing) is left out.
    pub fn add(&mut self, figure: &'static Figure, value: f64) {
        if value.is_finite() {
            self.figures.push((figure, value));
        }
    }

    /// Adds something that must hold.
    pub fn expect(&mut self, what: impl Into<String>, holds: bool) {
        self.expectations.push((what.into(), holds));
    }

    /// The value of a figure.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(figure, _)| figure.name == name).map(|(_, value)| *value)
    }
}

/// The rounds of one target.
#[derive(Clone, Debug)]
pub struct Results {
    pub target: String,
    pub rounds: Vec<Round>,
}

/// The middle of some numbers, and the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of no numbers there is none.
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

impl Results {
    /// Over all rounds.
    pub fn spread(&self, name: &str) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.value(name)))
    }

    /// The middle one of all rounds.
    pub fn median(&self, name: &str) -> Option<f64> {
        self.spread(name).map(|spread| spread.median)
    }
}

/// A number with so many digits behind the point, and its thousands apart.
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

fn cell(spread: Option<Spread>, digits: usize) -> String {
    let Some(Spread { median, min, max }) = spread else { return "–".to_owned() };
    let (low, middle, high) = (number(min, digits), number(median, digits), number(max, digits));
    if low == high { middle } else { format!("{middle} ({low}–{high})") }
}

/// All figures in rows, targets in columns: medians, least and greatest. The first target is divided by the others.
pub fn table(title: &str, all: &[Results]) -> String {
    let mut rows = vec![vec![title.to_owned()]];
    rows[0].extend(all.iter().map(|results| results.target.clone()));
    let divisors = all.get(1..).unwrap_or_default();
    rows[0].extend(divisors.iter().map(|results| format!("÷ {}", results.target)));
    let mut figures: Vec<&'static Figure> = Vec::new();
    for (figure, _) in all.iter().flat_map(|results| &results.rounds).flat_map(|round| &round.figures) {
        if !figures.contains(figure) {
            figures.push(figure);
        }
    }
    for figure in figures {
        let mut row = vec![figure.title.to_owned()];
        row.extend(all.iter().map(|results| cell(results.spread(figure.name), figure.digits)));
        let first = all.first().and_then(|results| results.median(figure.name));
        row.extend(divisors.iter().map(|results| match (first, results.median(figure.name)) {
            (Some(first), Some(other)) if figure.ratio && other > 0.0 => number(first / other, 2),
            _ => String::new(),
        }));
        rows.push(row);
    }
    aligned(&rows)
}

/// Markdown whose columns are below each other in a terminal too.
fn aligned(rows: &[Vec<String>]) -> String {
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

    const COST: Figure = Figure::compared("cost_us", "cost, µs", 2);
    const COUNT: Figure = Figure::shown("count", "count", 0);

    fn results(target: &str, costs: &[f64]) -> Results {
        let round = |&cost: &f64| Round { figures: vec![(&COST, cost)], expectations: Vec::new() };
        Results { target: target.to_owned(), rounds: costs.iter().map(round).collect() }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let spread = |numbers: &[f64]| Spread::of(numbers.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(spread(&[5.0]), Some(Spread { median: 5.0, min: 5.0, max: 5.0 }));
        assert_eq!(spread(&[]), None);
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
    fn numbers_have_their_thousands_apart() {
        let shown = [(0.0, 0), (999.0, 0), (1000.0, 0), (-1_234_567.891, 2), (0.5, 1)];
        let shown = shown.map(|(value, digits)| number(value, digits));
        assert_eq!(shown, ["0", "999", "1,000", "-1,234,567.89", "0.5"]);
    }
}
