//! Tests of the compiler: mistakes and their diagnostics, and that no file makes it panic.

mod large;
mod mistakes;
mod properties;
mod token_field;

use super::*;
