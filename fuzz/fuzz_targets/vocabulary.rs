//! Feeds any bytes to the shipped vocabularies, and to one for tests, as messages, bodies, paths and queries, with and without an identity.
#![no_main]

#[path = "../../tests/vocabularies/fuzzed.rs"]
mod fuzzed;

use std::path::Path;
use std::sync::Arc;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::fuzz::Target;

use crate::fuzzed::fuzzed;

static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let compiled = |(_, text): (String, String)| compile(&text).expect("these vocabularies compile").vocabulary;
    fuzzed(&root).into_iter().map(|file| Target::new(&Arc::new(compiled(file)))).collect()
});

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let target = &TARGETS[usize::from(choice >> 1) % TARGETS.len()];
    target.run(bytes, choice & 1 == 0);
});
