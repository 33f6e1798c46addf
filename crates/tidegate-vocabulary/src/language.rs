//! Language: tables of all keys in a vocabulary's file, with their types, descriptions and actions. The compiler, the
//! JSON Schema for editors and the tests of the manual use them.

pub mod index;
pub mod key;
pub mod rules;
pub mod schema;
pub mod sections;
