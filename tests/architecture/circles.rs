//! Import cycles between files, direct or through other files.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use crate::source::Source;
use crate::source::read;

/// The import cycles between these files, each once, with its files in order.
fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let files: BTreeSet<_> = sources.iter().map(Source::module_path).collect();
    let imports: BTreeMap<_, _> =
        sources.iter().map(|source| (source.module_path(), source.imported_files(&files))).collect();
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

/// All files that a file imports, directly or through others. It contains the file itself if that is in a cycle.
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

#[test]
fn files_do_not_import_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, least) in [
        ("src", 20),
        ("crates/tidegate-bench/src", 20),
        ("crates/tidegate-document/src", 8),
        ("crates/tidegate-protocol/src", 20),
        ("crates/tidegate-vocabulary/src", 20),
    ] {
        let sources = read(root, folder);
        assert!(sources.len() > least, "{folder}");
        assert_eq!(circles(&sources), Vec::<Vec<String>>::new(), "move what both need to a file of its own");
    }
}

#[test]
fn a_circle_of_imports_is_found_however_it_is_written() {
    let found = |parent: &str, child: &str| {
        let sources = [("src/hub.rs", parent), ("src/hub/topic.rs", child), ("src/hub/outbox.rs", "")];
        circles(&sources.map(|(path, code)| Source::new(path, code)))
    };
    let circle = [["hub", "hub::topic"]];
    let parents = ["use crate::hub::topic::Topic;", "mod topic;\nfn f() { topic::f() }"];
    for child in ["use crate::hub::Hub;", "use super::Hub;", "fn f(hub: &crate::hub::Hub) {}"] {
        for parent in parents {
            assert_eq!(found(parent, child), circle, "{parent} {child}");
        }
        assert!(found("pub mod topic;\n// See topic::f.", child).is_empty(), "{child}");
    }
    for child in ["pub(in crate::hub) fn f() {}", "#[cfg(test)]\nmod tests { use super::super::Hub; }"] {
        assert!(found(parents[0], child).is_empty(), "{child}");
    }
    let long = [
        ("src/hub.rs", "mod a;"),
        ("src/hub/a.rs", "use crate::hub::b::B;"),
        ("src/hub/b.rs", "use super::c::C;\nuse super::c::d::D;"),
        ("src/hub/c.rs", "use crate::hub::Hub;"),
        ("src/hub/c/d.rs", "use super::super::a::A;"),
    ];
    let found = circles(&long.map(|(path, code)| Source::new(path, code)));
    assert_eq!(found, [["hub::a", "hub::b", "hub::c::d"]]);
}
