//! Everything that only shows with the real nats-server and real sockets, in one binary.

mod support;

mod classes;
mod autobahn;
mod delivery;
mod dev;
mod drain;
mod held;
mod slow_clients;
