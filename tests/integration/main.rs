//! Everything that only shows with the real nats-server and real sockets, in one binary.


mod support;

mod delivery;
