//! Tidegate, a WebSocket edge for NATS: delivers messages on NATS subjects to the browsers that may see them.
//!
//! This file is the map of the modules. A module may import only modules below it: `docs/ARCHITECTURE.md` has the exact
//! table, and `tests/architecture.rs` checks it.

pub mod cli;

pub mod app;

pub mod http;

pub mod shard;

pub mod connection;

pub mod node;

pub mod lane;

pub mod auth;
pub mod nats;

pub mod hub;
pub mod net;

pub mod telemetry;

pub mod config;

pub mod metrics;

pub mod hooks;
