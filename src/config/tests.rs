//! Tests of the whole configuration: files, variables and flags become a `Config`, or a list of errors.

use tidegate_document::diagnostic::Diagnostic;

use super::*;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::config::invalid::InvalidConfig;
use crate::config::load::Loaded;
use crate::config::load::known_keys;
use crate::config::load::load;
use crate::config::source::Sources;

mod access;
mod api_keys;
mod browsers;
mod endpoints;
mod files;
mod hostile;
mod lists;
mod messages;
mod mistakes;
mod precedence;
mod ranges;
mod report;
mod secrecy;
mod shipped;
mod vocabularies;

/// A secret that is long enough, and not a sample from documentation.
const SECRET: &str = "wJ8x2Qm5kP0vR7tY3uI6oL9aS4dF1gHz";

/// A temporary file, which is removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(contents: impl AsRef<[u8]>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tidegate-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, contents).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_all(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded, InvalidConfig> {
    let file = Scratch::new(file);
    let sources =
        Sources { file: Some(file.0.clone()), environment: owned(environment), flags: owned(flags) };
    load(&sources)
}

fn load_file(file: &str) -> Result<Loaded, InvalidConfig> {
    load_all(file, &[], &[])
}

fn errors_in(file: &str) -> Vec<Diagnostic> {
    load_file(file).expect_err(file).0
}

/// The only error of a file.
fn error_in(file: &str) -> Diagnostic {
    let mut errors = errors_in(file);
    assert_eq!(errors.len(), 1, "{file}: {errors:#?}");
    errors.remove(0)
}

fn shipped() -> &'static str {
    include_str!("../../config.toml")
}

#[test]
fn the_environment_is_that_of_the_process() {
    let expected = ("CARGO_MANIFEST_DIR".to_owned(), env!("CARGO_MANIFEST_DIR").to_owned());
    assert!(environment().contains(&expected));
}
