//! Feeds any bytes to the shipped vocabularies, and to one for tests, as messages, bodies, paths and queries, with and without an identity.
#![no_main]

use std::sync::Arc;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::fuzz::Target;

const FILES: [&str; 8] = [
    include_str!("../../vocabularies/ara.toml"),
    include_str!("../../vocabularies/financegpt.toml"),
    include_str!("../../vocabularies/financegpt-mcp.toml"),
    include_str!("../../vocabularies/financegpt-tools.toml"),
    include_str!("../../vocabularies/graphql-ws.toml"),
    include_str!("../../vocabularies/hoardrun.toml"),
    include_str!("../../vocabularies/sentio.toml"),
    include_str!("../../vocabularies/stock-agent.toml"),
    include_str!("../../tests/transcripts/dotted/vocabulary.toml"),
];

static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(|| {
    let compiled =
        FILES.iter().map(|file| Arc::new(compile(file).expect("these vocabularies compile").vocabulary));
    compiled.map(|vocabulary| Target::new(&vocabulary)).collect()
});

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    let target = &TARGETS[usize::from(choice >> 1) % TARGETS.len()];
    target.run(bytes, choice & 1 == 0);
});
