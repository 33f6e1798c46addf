//! Panics: a fault of ours goes to the logs, like everything else that someone must act on.

use std::backtrace::Backtrace;
use std::backtrace::BacktraceStatus;
use std::panic::PanicHookInfo;

use tracing::debug;
use tracing::error;

use crate::telemetry::limit::LogLimit;

static PANICS: LogLimit = LogLimit::per_second(1);

/// From now on panics are logged, in place of what Rust prints.
pub fn log() {
    std::panic::set_hook(Box::new(note));
}

/// Words that are put together when it panics may have a client's bytes in them, which only `debug` may show.
fn note(info: &PanicHookInfo<'_>) {
    let Some(suppressed) = PANICS.pass() else {
        return;
    };
    let place = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    let (place, thread) = (place.as_deref(), thread.name());
    let literal = info.payload().downcast_ref::<&str>();
    error!(place, thread, suppressed, reason = literal, "a fault of ours: please report it");
    if literal.is_none() {
        let reason = info.payload_as_str();
        debug!(place, reason, "what the fault said");
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(place, %backtrace, "where the fault came from");
    }
}
