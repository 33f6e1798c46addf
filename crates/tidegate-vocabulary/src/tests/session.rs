//! Tests of the session without a network: transcripts, limits and permissions, late inputs, and random inputs.

mod commands;
mod late;
mod properties;
mod shell;
mod snapshots;
mod transcripts;
