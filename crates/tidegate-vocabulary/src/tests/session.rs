//! The session by itself: golden transcripts, its limits and permissions, and any sequence of inputs.

mod commands;
mod described;
mod late;
mod properties;
mod shell;
mod transcripts;
