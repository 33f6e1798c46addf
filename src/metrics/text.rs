//! The text of all metrics, in the format that the reader asks for: OpenMetrics 1.0, or that of Prometheus.

use std::fmt;
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::MetricEncoder;
use prometheus_client::encoding::NoLabelSet;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::metrics::samples::Samples;
use crate::metrics::samples::Value;
use crate::metrics::table::ALL;
use crate::metrics::table::MetricKind;
use crate::metrics::traced_histogram::Example;

/// The media type of OpenMetrics, without parameters.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A text format for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextFormat {
    OpenMetrics,
    Prometheus,
}

impl TextFormat {
    /// The format for a request with this `Accept` header (RFC 9110 §12.5.1): OpenMetrics if the reader prefers it.
    pub fn preferred(accept: &str) -> Self {
        let (mut open_metrics, mut prometheus) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            match media_type.as_str() {
                OPEN_METRICS => open_metrics = f32::max(open_metrics, quality),
                "text/plain" => prometheus = f32::max(prometheus, quality),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= prometheus { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }

    /// The text of these values.
    pub fn encode(self, samples: Samples) -> Result<String, fmt::Error> {
        let examples: Vec<_> = samples.examples().map(|(name, examples)| (name, *examples)).collect();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(samples));
        let mut encoded = String::new();
        match self {
            Self::OpenMetrics => {
                text::encode(&mut encoded, &registry)?;
                for (name, examples) in examples {
                    encoded = with_examples(&encoded, name, &examples)?;
                }
            }
            Self::Prometheus => prometheus_text::encode(&mut encoded, &registry)?,
        }
        Ok(encoded)
    }
}

/// The text with the examples of a histogram behind its buckets. The encoder takes none that are made elsewhere.
fn with_examples(text: &str, name: &str, examples: &[Option<Example>]) -> Result<String, fmt::Error> {
    let bucket = format!("{name}_bucket{{");
    let (mut examples, mut with) = (examples.iter(), String::with_capacity(text.len() + 1024));
    for line in text.lines() {
        with.push_str(line);
        if line.starts_with(&bucket)
            && let Some(Some(Example { trace, took, at })) = examples.next()
        {
            let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            let (seconds, millis) = (at.as_secs(), at.subsec_millis());
            write!(with, " # {{trace_id=\"{trace:032x}\"}} {} {seconds}.{millis:03}", took.as_secs_f64())?;
        }
        with.push('\n');
    }
    Ok(with)
}

/// Encodes all metrics of the table, those without a value too: then only their description.
impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in ALL {
            let (name, kind) = match metric.kind {
                // The encoder adds the suffix.
                MetricKind::Counter => (metric.name.trim_end_matches("_total"), MetricType::Counter),
                MetricKind::Gauge => (metric.name, MetricType::Gauge),
                MetricKind::Histogram => (metric.name, MetricType::Histogram),
            };
            let mut encoder = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (values, value) in self.of(metric) {
                let labels: Vec<_> =
                    metric.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                if labels.is_empty() {
                    encode_value(&mut encoder, metric.kind, value)?;
                } else {
                    encode_value(&mut encoder.encode_family(&labels)?, metric.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder<'_>, kind: MetricKind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (MetricKind::Counter, Value::Number(number)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(number, None)
        }
        (MetricKind::Counter, Value::Time(seconds)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(seconds, None)
        }
        (MetricKind::Gauge, Value::Number(number)) => encoder.encode_gauge(number),
        (MetricKind::Gauge, Value::Time(seconds)) => encoder.encode_gauge(seconds),
        (MetricKind::Histogram, Value::Durations(durations)) => encoder.encode_histogram::<NoLabelSet>(
            durations.sum(),
            durations.count(),
            &durations.steps(),
            None,
        ),
        (MetricKind::Counter | MetricKind::Gauge, Value::Durations(_))
        | (MetricKind::Histogram, Value::Number(_) | Value::Time(_)) => Err(fmt::Error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::histogram::Histogram;
    use crate::metrics::table;
    use crate::metrics::traced_histogram::TracedHistogram;

    fn samples() -> Samples {
        let mut samples = Samples::default();
        samples.add(&table::CONNECTIONS_CLOSED, &["1000", "normal"], 2);
        samples.add(&table::CONNECTIONS_CLOSED, &["1000", "normal"], 1);
        samples.add(&table::CONNECTIONS_CLOSED, &["4505", "a\"b"], 1);
        samples.set(&table::READY, Value::Number(1));
        samples.set(&table::PROCESS_CPU, Value::Time(1.5));
        let mut durations = Histogram::default();
        durations.record(Duration::from_millis(2));
        samples.set(&table::DELIVERY_LATENCY, Value::Durations(durations));
        samples
    }

    #[test]
    fn values_are_in_both_formats() {
        for format in [TextFormat::OpenMetrics, TextFormat::Prometheus] {
            let text = format.encode(samples()).unwrap();
            for line in [
                "tidegate_connections_closed_total{code=\"1000\",reason=\"normal\"} 3",
                "tidegate_connections_closed_total{code=\"4505\",reason=\"a\\\"b\"} 1",
                "tidegate_ready 1",
                "process_cpu_seconds_total 1.5",
                "tidegate_delivery_latency_seconds_bucket{le=\"0.001\"} 0",
                "tidegate_delivery_latency_seconds_bucket{le=\"0.0025\"} 1",
                "tidegate_delivery_latency_seconds_bucket{le=\"+Inf\"} 1",
                "tidegate_delivery_latency_seconds_count 1",
                "tidegate_delivery_latency_seconds_sum 0.002",
            ] {
                assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
            }
        }
        // OpenMetrics describes the family, and ends with this line.
        let open = TextFormat::OpenMetrics.encode(samples()).unwrap();
        assert!(open.contains("# TYPE tidegate_connections_closed counter\n") && open.ends_with("# EOF\n"));
        let prometheus = TextFormat::Prometheus.encode(samples()).unwrap();
        assert!(prometheus.contains("# TYPE tidegate_connections_closed_total counter\n"));
        assert!(!prometheus.contains("EOF"));
    }

    #[test]
    fn examples_are_behind_their_buckets_in_openmetrics_only() {
        let mut histogram = TracedHistogram::default();
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        histogram.record(Duration::from_millis(2), Some(0x4bf9), at);
        histogram.record(Duration::from_secs(60), Some(1), at);
        let samples = || {
            let mut samples = samples();
            samples.set_traced(&table::PRODUCER_LATENCY, histogram);
            samples
        };
        let text = TextFormat::OpenMetrics.encode(samples()).unwrap();
        let id = format!("{:032x}", 0x4bf9);
        for line in [
            "tidegate_producer_latency_seconds_bucket{le=\"0.001\"} 0".to_owned(),
            format!(
                "tidegate_producer_latency_seconds_bucket{{le=\"0.0025\"}} 1 # {{trace_id=\"{id}\"}} 0.002 1700000000.250"
            ),
            format!(
                "tidegate_producer_latency_seconds_bucket{{le=\"+Inf\"}} 2 # {{trace_id=\"{:032x}\"}} 60 1700000000.250",
                1
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!TextFormat::Prometheus.encode(samples()).unwrap().contains("trace_id"));
    }

    #[test]
    fn every_metric_is_described() {
        let text = TextFormat::Prometheus.encode(Samples::default()).unwrap();
        for metric in ALL {
            let described =
                format!("# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.kind.name());
            assert!(text.contains(&described), "{}", metric.name);
        }
    }

    #[test]
    fn the_reader_chooses_the_format() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0,\
                             application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (of_prometheus, TextFormat::OpenMetrics),
            ("application/openmetrics-text", TextFormat::OpenMetrics),
            ("Application/OpenMetrics-Text; q=0.5, text/plain; q=0.4", TextFormat::OpenMetrics),
            ("text/plain, application/openmetrics-text;q=0.9", TextFormat::Prometheus),
            ("application/openmetrics-text;q=0", TextFormat::Prometheus),
            ("*/*", TextFormat::Prometheus),
            ("", TextFormat::Prometheus),
        ] {
            assert_eq!(TextFormat::preferred(accept), expected, "{accept}");
        }
    }
}
