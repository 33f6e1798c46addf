//! Language: every key that a vocabulary's file may have, as tables: what it holds, what it is for, and which words for
//! `do` take it. The compiler, the schema for editors and the tests of the manual go by them.

pub mod homes;
pub mod key;
pub mod rules;
pub mod schema;
pub mod sections;
