//! `Samples`: the values of all metrics at one moment.

use std::collections::BTreeMap;

use crate::metrics::histogram::Histogram;
use crate::metrics::table::Metric;

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
pub struct Samples(BTreeMap<&'static str, BTreeMap<Vec<String>, Value>>);

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

    /// The values of a metric.
    pub(super) fn of(&self, metric: &Metric) -> impl Iterator<Item = (&Vec<String>, &Value)> {
        self.0.get(metric.name).into_iter().flatten()
    }

    fn value(&mut self, metric: &'static Metric, labels: &[&str], first: Value) -> &mut Value {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.entry(metric.name).or_default().entry(labels).or_insert(first)
    }
}
