//! Checks that METRICS.md lists the metrics of the code, and their labels.

use std::collections::BTreeSet;

use tidegate::config::Config;
use tidegate::connection::counts::DropReason;
use tidegate::metrics::table::ALL;
use tidegate::node::refusals::Refused;
use tidegate_protocol::gap_cause::GapCause;

use crate::read;
use crate::rows;

#[test]
fn the_tables_of_metrics_are_those_of_the_code() {
    let page = read("docs/METRICS.md");
    let written: Vec<_> = rows(&page).into_iter().filter(|row| row.len() == 4).collect();
    let coded = ALL.iter().map(|metric| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "—".to_owned() } else { labels.join(", ") };
        vec![format!("`{}`", metric.name), metric.kind.name().to_owned(), labels, metric.help.to_owned()]
    });
    assert_eq!(written, coded.collect::<Vec<_>>());
}

#[test]
fn every_metric_that_the_text_names_exists() {
    let page = read("docs/METRICS.md");
    let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
    let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| ["tidegate_", "process_", "tokio_"].iter().any(|of| word.starts_with(of));
    let named: BTreeSet<_> = words.filter(is_metric).collect();
    assert!(named.len() >= names.len(), "{named:?}");
    for name in named {
        assert!(names.contains(name.trim_end_matches("_bucket")), "{name}");
    }
}

#[test]
fn the_values_of_labels_are_those_of_the_code() {
    let page = read("docs/METRICS.md");
    let value = |name: &str| page.contains(&format!("`{name}`"));
    let counted = Refused::ALL.into_iter().filter(|refused| refused.is_counted());
    assert!(counted.map(Refused::name).all(value));
    assert!([DropReason::Unannounced, DropReason::Ended].into_iter().all(|reason| value(reason.name())));
    let protocol = read("docs/PROTOCOL.md");
    assert!(GapCause::ALL.iter().all(|cause| protocol.contains(&format!("`{}`", cause.name()))));
}

#[test]
fn the_listener_is_off_by_default_and_the_page_says_how_to_turn_it_on() {
    assert_eq!(Config::default().admin.listen, None);
    assert!(read("docs/METRICS.md").contains("[admin]\nlisten = \"127.0.0.1:9090\""));
}
