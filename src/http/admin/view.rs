//! `AdminView`: what the admin listener shows of the configuration in use. A reload replaces it.

use std::sync::Arc;

use tidegate_protocol::class::Class;
use tidegate_protocol::subject::Pattern;

use crate::config::report::ConfigReport;
use crate::http::gate::Gate;

/// What the admin listener shows of the configuration in use.
#[derive(Debug, Default)]
pub struct AdminView {
    /// The gate of each listener.
    pub gates: Vec<Arc<Gate>>,
    pub classes: Vec<Class>,
    /// Their patterns, by the numbers of the classes.
    pub class_patterns: Vec<Pattern>,
    /// Every setting and where it is from.
    pub report: ConfigReport,
}
