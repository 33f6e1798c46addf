//! Revocations: which credentials are revoked, and which permissions are withdrawn from users. Pure: no clock, no I/O.
//!
//! A revocation takes away and never gives: clients get more by a new token, or by a role in the configuration.

pub mod message;
pub mod rule;
pub mod table;
pub mod target;
