//! `Samples`: the values of all metrics at one moment.

use std::collections::BTreeMap;

use crate::metrics::histogram::Histogram;
use crate::metrics::histogram::STEPS;
use crate::metrics::table::Metric;
use crate::metrics::traced_histogram::Example;
use crate::metrics::traced_histogram::TracedHistogram;

/// A value, for one combination of labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Number(u64),
    /// Seconds.
    Time(f64),
    Durations(Histogram),
}

/// The values of metrics, by the name of the metric and the values of its labels.
#[derive(Debug, Default)]
pub struct Samples {
    values: BTreeMap<&'static str, BTreeMap<Vec<String>, Value>>,
    /// Examples of the steps of a histogram, by its name.
    examples: BTreeMap<&'static str, [Option<Example>; STEPS]>,
}

impl Samples {
    /// Adds a number to the value of a metric; `labels` are the values of its labels.
    pub fn add(&mut self, metric: &'static Metric, labels: &[&str], number: u64) {
        match self.value(metric, labels, Value::Number(0)) {
            Value::Number(value) => *value += number,
            Value::Time(_) | Value::Durations(_) => {}
        }
    }

    /// Sets the value of a metric without labels.
    pub fn set(&mut self, metric: &'static Metric, value: Value) {
        self.set_labelled(metric, &[], value);
    }

    /// Sets the value of a metric; `labels` are the values of its labels.
    pub fn set_labelled(&mut self, metric: &'static Metric, labels: &[&str], value: Value) {
        *self.value(metric, labels, value) = value;
    }

    /// Sets a histogram without labels, and the examples of its steps.
    pub fn set_traced(&mut self, metric: &'static Metric, histogram: TracedHistogram) {
        self.set(metric, Value::Durations(histogram.durations));
        self.examples.insert(metric.name, histogram.examples);
    }

    /// The name of each histogram with examples, and the examples of its steps.
    pub(super) fn examples(&self) -> impl Iterator<Item = (&'static str, &[Option<Example>; STEPS])> {
        self.examples.iter().map(|(name, examples)| (*name, examples))
    }

    /// The values of a metric.
    pub(super) fn of(&self, metric: &Metric) -> impl Iterator<Item = (&Vec<String>, &Value)> {
        self.values.get(metric.name).into_iter().flatten()
    }

    fn value(&mut self, metric: &'static Metric, labels: &[&str], first: Value) -> &mut Value {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.values.entry(metric.name).or_default().entry(labels).or_insert(first)
    }
}
