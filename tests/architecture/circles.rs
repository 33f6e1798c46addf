//! Circles: which files import each other, directly or by way of others.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::source::Source;

/// The circles of imports between these files, each once: its files in order.
pub(crate) fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let files: BTreeSet<_> = sources.iter().map(Source::place).collect();
    let imports: BTreeMap<_, _> =
        sources.iter().map(|source| (source.place(), source.imported_files(&files))).collect();
    let reached: BTreeMap<_, _> = files.iter().map(|file| (file, reach(file, &imports))).collect();
    let mut circles = BTreeSet::new();
    for file in &files {
        let circle: Vec<_> = reached[file].iter().filter(|other| reached[*other].contains(file)).collect();
        if !circle.is_empty() {
            circles.insert(circle.into_iter().cloned().collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

/// All files that one imports, directly or by way of others: itself, if it is in a circle.
fn reach(file: &str, imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        for next in &imports[file] {
            if reached.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    reached
}
