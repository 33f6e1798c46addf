//! Everything that only shows with the real nats-server and real sockets, in one binary.

mod support;

mod auth;
mod autobahn;
mod classes;
mod delivery;
mod dev;
mod drain;
mod frames;
mod handshake;
mod held;
mod limits;
mod request;
mod outages;
mod slow_clients;
mod transcripts;
