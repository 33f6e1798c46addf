//! Document: a TOML file read key by key, so that one reading finds every mistake. The configuration and the vocabularies
//! are read by it.

pub mod diagnostic;
pub mod diagnostics;
pub mod node;
pub mod parse;
pub mod place;
pub mod quote;
pub mod section;
pub mod suggest;
