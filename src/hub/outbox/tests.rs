//! An outbox keeps its classes' promises, whatever is pushed and however little the socket takes.

mod model;
mod promises;
mod tables;
