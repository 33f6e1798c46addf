//! Circles of files that import each other, in the folders that are free of them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::iter::successors;
use std::path::Path;

use crate::source::Source;
use crate::source::read;

/// These folders stay so. Add yours when it is free of circles.
const FOLDERS: [&str; 5] = ["auth", "config", "http", "protocol", "vocabulary"];

/// Each file, and the files that it imports, both as modules.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// `src/config/nats/login.rs` is `config::nats::login`.
fn module_of(source: &Source) -> String {
    let path = source.path.strip_prefix("src/").unwrap();
    path.strip_suffix(".rs").unwrap().replace('/', "::")
}

/// Without comments, tests and visibilities.
fn code_of(source: &Source) -> String {
    let code = source.text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n").replace("(in crate::", "(in ")
}

/// The paths that the source names. That it has a child is no import, but that it uses what is in the child.
fn paths_of(source: &Source) -> Vec<String> {
    let (module, code) = (module_of(source), code_of(source));
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let path_at = |at: usize| code[at..].split(|c| !is_path(c)).next().unwrap().to_owned();
    let from_root = code.match_indices("crate::").map(|(at, root)| path_at(at + root.len()));
    let children = code
        .lines()
        .filter_map(|line| line.trim_end_matches(';').split_once("mod ").filter(|_| line.ends_with(';')));
    let used = children.filter(|(_, child)| {
        let path = format!("{child}::");
        code.match_indices(&path).any(|(at, _)| !code[..at].ends_with(is_path))
    });
    let used = used.map(|(_, child)| format!("{module}::{child}"));
    from_root.chain(used).collect()
}

fn imports(sources: &[Source]) -> Imports {
    let modules: BTreeSet<_> = sources.iter().map(module_of).collect();
    // The deepest module of a path that has a file: the rest names what is in it.
    let file_of = |path: &str| {
        let mut parents = successors(Some(path), |path| path.rsplit_once("::").map(|(parent, _)| parent));
        parents.find(|module| modules.contains(*module)).map(str::to_owned)
    };
    let of_one = |source: &Source| {
        let module = module_of(source);
        let imported =
            paths_of(source).into_iter().filter_map(|path| file_of(&path)).filter(|file| *file != module);
        (module.clone(), imported.collect())
    };
    sources.iter().map(of_one).collect()
}

/// The files that import themselves by way of others, and those between two such circles.
fn circles(mut imports: Imports) -> Imports {
    loop {
        let imported: BTreeSet<_> = imports.values().flatten().cloned().collect();
        let before = imports.len();
        imports.retain(|file, uses| !uses.is_empty() && imported.contains(file));
        let left: BTreeSet<_> = imports.keys().cloned().collect();
        imports.values_mut().for_each(|uses| uses.retain(|file| left.contains(file)));
        if imports.len() == before {
            return imports;
        }
    }
}

#[test]
fn files_import_each_other_in_one_direction() {
    let sources = read(Path::new(env!("CARGO_MANIFEST_DIR")), "src");
    let imports = imports(&sources);
    for folder in FOLDERS {
        let beneath = format!("{folder}::");
        let is_here = |file: &str| file == folder || file.starts_with(&beneath);
        let of_folder = imports.iter().filter(|(file, _)| is_here(file));
        let of_folder: Imports = of_folder
            .map(|(file, uses)| (file.clone(), uses.iter().filter(|file| is_here(file)).cloned().collect()))
            .collect();
        assert!(of_folder.values().map(BTreeSet::len).sum::<usize>() > 10, "{folder}: {of_folder:#?}");
        let found = circles(of_folder);
        assert!(found.is_empty(), "move what they share to a file of its own: {found:#?}");
    }
}

#[test]
fn a_circle_is_found_and_a_parent_that_declares_its_child_is_none() {
    let found = |files: &[(&str, &str)]| {
        let sources: Vec<_> = files.iter().map(|(path, code)| Source::new(path, code)).collect();
        circles(imports(&sources)).into_keys().collect::<Vec<_>>().join(" ")
    };
    let child = ("src/a/b.rs", "use crate::a::A;\nfn f() {}\n");
    assert_eq!(found(&[("src/a.rs", "mod b;\nstruct A;\n"), child]), "");
    assert_eq!(found(&[("src/a.rs", "mod b;\nuse crate::a::b::B;\n"), child]), "a a::b");
    assert_eq!(found(&[("src/a.rs", "mod b;\nfn f() { b::f() }\n"), child]), "a a::b");
    assert_eq!(found(&[("src/a.rs", "mod b;\nfn f() { c::b::f() }\n"), child]), "");
    let tests = "mod b;\n// crate::a::b\n#[cfg(test)]\nmod tests {\n    use crate::a::b;\n}\n";
    assert_eq!(found(&[("src/a.rs", tests), child]), "");
    let seen = "mod b;\npub(in crate::a::b) fn f() {}\n";
    assert_eq!(found(&[("src/a.rs", seen), child]), "");
    let ring = [
        ("src/a.rs", "use crate::b::B;\n"),
        ("src/b.rs", "use crate::c::C;\n"),
        ("src/c.rs", "use crate::a::A;\nuse crate::d::D;\n"),
        ("src/d.rs", "struct D;\n"),
        ("src/e.rs", "use crate::a::A;\n"),
    ];
    assert_eq!(found(&ring), "a b c");
}
