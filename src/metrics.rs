//! Metrics: the table of all of them, histograms, and the text in which Prometheus reads them. It knows none of our other
//! modules: `http/admin` collects the values.

pub mod table;

pub mod samples;

pub mod histogram;

pub mod text;
pub mod traced_histogram;
