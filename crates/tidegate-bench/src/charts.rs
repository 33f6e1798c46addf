//! The charts of `docs/BENCHMARKS.md`.

use crate::metrics::number;
use crate::report::Outcome;
use crate::suite::GROWTH;
use crate::svg::Anchor;
use crate::svg::BLUE;
use crate::svg::GREEN;
use crate::svg::GREY;
use crate::svg::ORANGE;
use crate::svg::Svg;

/// Each target with its legend and colour. Tidegate is first.
const TARGETS: [(&str, &str, &str); 3] = [
    ("tidegate", "Tidegate, with nats-server behind it", BLUE),
    ("nats-server", "nats-server's own WebSocket listener", ORANGE),
    ("baseline", "baseline: bare writes", GREY),
];

struct Bar<'a> {
    label: &'a str,
    value: f64,
    colour: &'a str,
}

/// The charts for which there are results: file name, title and SVG.
pub fn all(outcomes: &[Outcome]) -> Vec<(&'static str, &'static str, String)> {
    let cpu = ("cpu", "CPU per delivery by workload", cpu(outcomes));
    let memory = ("memory", "Memory of an idle socket", memory(outcomes));
    let growth = ("growth", "CPU per delivery by number of sockets", growth(outcomes));
    let drawn = [cpu, memory, growth].into_iter().filter_map(|(name, title, svg)| Some((name, title, svg?)));
    drawn.collect()
}

fn median(outcomes: &[Outcome], workload: &str, target: &str, metric: &str) -> Option<f64> {
    outcomes.iter().find(|outcome| outcome.name == workload)?.median(target, metric)
}

/// One panel per workload, each with its own scale, because the workloads differ by a factor of a hundred.
fn cpu(outcomes: &[Outcome]) -> Option<String> {
    let workloads = [
        ("fanout-64", "fan-out to 1,000 sockets, 64 in flight"),
        ("fanout-1", "fan-out to 1,000 sockets, 1 in flight"),
        ("fanout-rate", "fan-out to 1,000 sockets, 200 messages/s"),
        ("market", "market: 1,000 subjects, 500 sockets with ten each, 1,000 in flight"),
        ("private", "private: 5,000 sockets, a subject each, 64 in flight"),
        ("private-pattern", "private, one feed by pattern"),
    ];
    let mut panels = Vec::new();
    for (workload, title) in workloads {
        let bars = TARGETS.iter().filter_map(|&(target, _, colour)| {
            let value = median(outcomes, workload, target, "cpu_us")?;
            Some(Bar { label: target, value, colour })
        });
        let bars: Vec<_> = bars.collect();
        if !bars.is_empty() {
            panels.push((title, bars));
        }
    }
    let title = "CPU per delivery, µs (less is better)";
    let note = "All servers together, including the kernel. Each group has its own scale.";
    let own = |bars: &[Bar<'_>]| bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let shown = |value: f64| format!("{} µs", number(value, if value < 1.0 { 3 } else { 2 }));
    scaled_chart(title, note, &panels, &own, &shown)
}

fn memory(outcomes: &[Outcome]) -> Option<String> {
    let workloads = [
        ("idle-shared", "10,000 sockets, one subject for all"),
        ("idle-private", "10,000 sockets, a subject each"),
        ("idle-private-pattern", "10,000 sockets, a subject each, one feed by pattern"),
        ("idle-compressed", "10,000 sockets, compression negotiated"),
    ];
    let mut panels = Vec::new();
    for (workload, title) in workloads {
        let mut bars = Vec::new();
        for (target, _, colour) in TARGETS {
            let value = |metric| median(outcomes, workload, target, metric);
            let Some(all) = value("socket_bytes") else { continue };
            bars.push(Bar { label: target, value: all, colour });
            let nats_share =
                value("nats_socket_bytes").filter(|nats_share| target == "tidegate" && *nats_share > 64.0);
            if let Some(nats_share) = nats_share {
                bars.push(Bar { label: "nats-server's share", value: nats_share, colour: GREEN });
            }
        }
        if !bars.is_empty() {
            panels.push((title, bars));
        }
    }
    let title = "Memory of an idle socket, KB of process memory (less is better)";
    let note = "Growth of the processes, divided by the number of sockets; without kernel memory. One scale for all.";
    let most = panels.iter().flat_map(|(_, bars)| bars).map(|bar| bar.value).fold(0.0, f64::max);
    let shown = |value: f64| format!("{} KB", number(value / 1024.0, 1));
    scaled_chart(title, note, &panels, &|_| most, &shown)
}

/// A chart with panels of horizontal bars and their values. `most` returns the value that fills a panel's width.
fn scaled_chart(
    title: &str,
    note: &str,
    panels: &[(&str, Vec<Bar<'_>>)],
    most: &dyn Fn(&[Bar<'_>]) -> f64,
    shown: &dyn Fn(f64) -> String,
) -> Option<String> {
    const WIDTH: f64 = 760.0;
    const LEFT: f64 = 150.0;
    const FULL: f64 = WIDTH - LEFT - 110.0;
    const BAR: f64 = 20.0;
    if panels.is_empty() {
        return None;
    }
    let bars: usize = panels.iter().map(|(_, bars)| bars.len()).sum();
    let height = 84.0 + panels.len() as f64 * 40.0 + bars as f64 * (BAR + 4.0);
    let mut svg = Svg::new(WIDTH, height);
    svg.heading(20.0, 32.0, 18, title);
    svg.text(20.0, 54.0, 12, Anchor::Start, note);
    let mut y = 70.0;
    for (title, bars) in panels {
        svg.heading(20.0, y + 22.0, 14, title);
        y += 32.0;
        let most = most(bars).max(f64::MIN_POSITIVE);
        let top = y;
        for bar in bars {
            svg.text(LEFT - 8.0, y + 15.0, 13, Anchor::End, bar.label);
            let width = FULL * bar.value / most;
            svg.bar(LEFT, y, width.max(1.0), BAR, bar.colour);
            svg.text(LEFT + width.max(1.0) + 6.0, y + 15.0, 13, Anchor::Start, &shown(bar.value));
            y += BAR + 4.0;
        }
        svg.rule((LEFT, top - 2.0), (LEFT, y - 2.0));
        y += 8.0;
    }
    Some(svg.finish(title))
}

/// A line per target over the number of sockets. Both axes are logarithmic, so equal growth gives parallel lines.
fn growth(outcomes: &[Outcome]) -> Option<String> {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 460.0;
    const LEFT: f64 = 70.0;
    const TOP: f64 = 110.0;
    const BOTTOM: f64 = HEIGHT - 60.0;
    const RIGHT: f64 = WIDTH - 50.0;
    let series = TARGETS.map(|(target, legend, colour)| {
        let points = GROWTH.iter().filter_map(|&sockets| {
            let value = median(outcomes, &format!("sockets-{sockets}"), target, "cpu_us")?;
            Some((sockets as f64, value))
        });
        (legend, colour, points.collect::<Vec<_>>())
    });
    if series[0].2.len() < 2 {
        return None;
    }
    let grid = grid_lines(series.iter().flat_map(|(_, _, points)| points).map(|(_, value)| *value));
    let part = |value: f64, first: f64, last: f64| (value / first).ln() / (last / first).ln();
    let x = |sockets: f64| {
        LEFT + 20.0 + (RIGHT - LEFT - 20.0) * part(sockets, GROWTH[0] as f64, GROWTH[GROWTH.len() - 1] as f64)
    };
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * part(value, grid[0], grid[grid.len() - 1]);

    let title = "CPU per delivery by number of sockets, µs (less is better)";
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.heading(20.0, 32.0, 18, title);
    let note = "One subject, 16 publications in flight. Both axes are logarithmic.";
    svg.text(20.0, 54.0, 12, Anchor::Start, note);
    let mut at = 20.0;
    for (legend, colour, _) in series.iter().filter(|(_, _, points)| !points.is_empty()) {
        svg.bar(at, 68.0, 12.0, 12.0, colour);
        svg.text(at + 18.0, 79.0, 13, Anchor::Start, legend);
        at += 40.0 + legend.chars().count() as f64 * 7.0;
    }
    for &value in &grid {
        svg.rule((LEFT, y(value)), (RIGHT, y(value)));
        svg.text(LEFT - 8.0, y(value) + 4.0, 12, Anchor::End, &value.to_string());
    }
    for sockets in GROWTH {
        let sockets = sockets as f64;
        svg.rule((x(sockets), BOTTOM), (x(sockets), BOTTOM + 5.0));
        svg.text(x(sockets), BOTTOM + 20.0, 12, Anchor::Middle, &number(sockets, 0));
    }
    svg.text(f64::midpoint(LEFT, RIGHT), HEIGHT - 14.0, 13, Anchor::Middle, "sockets");
    // The values of the lowest line are below it, so that they do not overlap those of the line above.
    for ((_, colour, points), lift) in series.iter().zip([-10.0, -10.0, 19.0]) {
        let drawn: Vec<_> = points.iter().map(|&(sockets, value)| (x(sockets), y(value))).collect();
        svg.path(&drawn, colour, 2.5);
        for (&(_, value), &place) in points.iter().zip(&drawn) {
            svg.dot(place, colour);
            let digits = if value < 1.0 { 2 } else { 1 };
            svg.text(place.0, place.1 + lift, 11, Anchor::Middle, &number(value, digits));
        }
    }
    Some(svg.finish(title))
}

/// The grid lines of a logarithmic scale that contains all values: 1, 2 and 5 times each power of ten.
fn grid_lines(values: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-6);
    let most = values.fold(least, f64::max);
    let all: Vec<f64> =
        (-6_i32..7).flat_map(|power| [1.0, 2.0, 5.0].map(|step| scaled(step, power))).collect();
    let first = all.iter().rposition(|line| *line <= least).unwrap_or_default();
    let last = all.iter().position(|line| *line >= most).unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1).min(all.len() - 1)].to_vec()
}

/// `step` times a power of ten, without the rounding errors of a negative power.
fn scaled(step: f64, power: i32) -> f64 {
    if power < 0 { step / 10_f64.powi(-power) } else { step * 10_f64.powi(power) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metric;
    use crate::metrics::Round;
    use crate::metrics::TargetResults;
    use crate::suite;
    use crate::svg;

    const CPU: Metric = Metric::compared("cpu_us", "CPU", 2);
    const MEMORY: Metric = Metric::compared("socket_bytes", "memory", 0);
    const NATS_SHARE: Metric = Metric::plain("nats_socket_bytes", "memory", 0);

    /// Every workload of the suite, with invented results.
    fn outcomes() -> Vec<Outcome> {
        let all = suite::all().into_iter().enumerate().map(|(at, entry)| {
            let results = TARGETS.iter().enumerate().map(|(number, (target, ..))| {
                let value = (at + number + 1) as f64;
                let metrics = vec![(&CPU, value), (&MEMORY, value * 1024.0), (&NATS_SHARE, value * 100.0)];
                let rounds = vec![Round { metrics, ..Round::default() }];
                TargetResults { target: (*target).to_owned(), rounds }
            });
            Outcome {
                name: entry.name,
                title: String::new(),
                workload: entry.workload,
                transport: entry.transport,
                results: results.collect(),
            }
        });
        all.collect()
    }

    #[test]
    fn charts_are_well_formed_and_show_every_value() {
        let outcomes = outcomes();
        let drawn = all(&outcomes);
        assert_eq!(drawn.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["cpu", "memory", "growth"]);
        for (name, title, svg) in &drawn {
            assert!(svg::is_well_formed(svg), "{name}: {svg}");
            assert!(!title.is_empty() && !svg.contains("NaN") && !svg.contains("inf"), "{name}");
        }
        assert!(drawn[0].2.contains(">1.00 µs<") && drawn[0].2.contains(">3.00 µs<"));
    }

    #[test]
    fn workloads_that_were_not_measured_are_left_out() {
        assert!(all(&[]).is_empty());
        let one: Vec<_> = outcomes().into_iter().filter(|outcome| outcome.name == "fanout-1").collect();
        assert_eq!(all(&one).iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["cpu"]);
    }

    #[test]
    fn a_scale_contains_all_values() {
        assert_eq!(grid_lines([0.31, 10.4].into_iter()), [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(grid_lines([1.0, 5.0].into_iter()), [1.0, 2.0, 5.0]);
        assert_eq!(grid_lines([3.0].into_iter()), [2.0, 5.0]);
        assert_eq!(grid_lines([5.0].into_iter()), [5.0, 10.0]);
        assert_eq!(grid_lines([0.03, 0.04].into_iter()), [0.02, 0.05]);
    }
}
