//! Logs panics, with their place and a backtrace if enabled.

use std::backtrace::Backtrace;
use std::backtrace::BacktraceStatus;
use std::panic::PanicHookInfo;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tracing::debug;
use tracing::error;

use crate::telemetry::limit::LogLimit;

static PANICS: LogLimit = LogLimit::per_second(1);
/// The panics since [`install_hook`].
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Installs a panic hook that logs panics instead of printing them.
pub fn install_hook() {
    std::panic::set_hook(Box::new(log_panic));
}

/// The panics of this process since [`install_hook`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Formatted messages may contain a client's bytes, so they are logged at `debug` only. Literal messages cannot.
fn log_panic(info: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let Some(suppressed) = PANICS.pass() else {
        return;
    };
    let place = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    let (place, thread) = (place.as_deref(), thread.name());
    let literal = info.payload().downcast_ref::<&str>();
    error!(
        place,
        thread,
        suppressed,
        reason = literal,
        "internal error: this is a bug in Tidegate, please report it"
    );
    if literal.is_none() {
        let reason = info.payload_as_str();
        debug!(place, reason, "panic message");
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(place, %backtrace, "panic backtrace");
    }
}
