//! The tests that need the real nats-server and real sockets, in one binary.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "clients and services of a test have no shard")]
#![expect(clippy::large_futures, reason = "a test's future is made once; only a connection's must be small")]

#[path = "../vocabularies/hostile.rs"]
mod hostile;
#[path = "../vocabularies/shipped.rs"]
mod shipped;
mod support;

mod access;
mod acme;
mod addresses;
mod admin;
mod admin_pages;
mod admission;
mod alerts;
mod audit;
mod auth;
mod autobahn;
mod bench;
mod call_limits;
mod certificates;
mod channel_listeners;
mod check;
mod classes;
mod compression;
mod delivery;
mod demo;
mod descriptors;
mod dev;
mod dev_banner;
mod discovery;
mod drain;
mod event_stream;
mod explain;
mod faults;
mod frames;
mod handshake;
mod held;
mod hints;
mod identity;
mod key_sets;
mod lanes;
mod ledger;
mod limits;
mod links;
mod listeners;
mod logins;
mod logs;
mod memory;
mod metrics;
mod nats_logs;
mod nats_users;
mod oidc;
mod openapi;
mod origins;
mod outages;
mod overruns;
mod panics;
mod poison;
mod preflight;
mod priorities;
mod publish_calls;
mod publishing;
mod redirect;
mod refusal_logs;
mod regressions;
mod reload;
mod replacement;
mod request;
mod revocation;
mod sentinel;
mod services;
mod shared_feeds;
mod slow_clients;
mod slow_shards;
mod storms;
mod streams;
mod test_page;
mod tickets;
mod tls;
mod tokens;
mod transcripts;
mod unix_sockets;
mod user_calls;
mod vocabularies;
