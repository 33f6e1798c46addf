//! `AppOptions`: the input for starting a node.

use crate::config::Config;
use crate::config::report::ConfigReport;
use crate::hooks::Hooks;
use crate::net::listener::Listener;

/// The input for starting a node.
pub struct AppOptions {
    pub config: Config,
    /// Every setting of `config` and where it is from, for the admin listener.
    pub report: ConfigReport,
    /// The listener of `http.listen`. The node opens the listeners of endpoints itself.
    pub listener: Listener,
    /// Faults and barriers for tests.
    pub hooks: Hooks,
}
