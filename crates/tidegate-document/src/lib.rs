//! TOML documents that are read key by key, so that one reading reports all errors. Tidegate reads its configuration
//! and its vocabularies with it.

pub mod diagnostic;
pub mod diagnostics;
pub mod node;
pub mod parse;
pub mod place;
pub mod quote;
pub mod section;
pub mod suggest;
