//! Tidegate, the WebSocket edge for NATS: plain messages on NATS subjects, delivered to browsers that may see them.
//!
//! This file is the map. A module may import only what is below it here (`docs/ARCHITECTURE.md` has the exact
//! table, `tests/architecture.rs` checks it).

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

pub mod hooks;
