//! Every dependency is pinned: crates and npm packages to their content, Python packages to their version.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the repository whose names end like this.
fn tracked(end: &str) -> Vec<PathBuf> {
    let listed =
        Command::new("git").arg("-C").arg(root()).args(["ls-files", "--", &format!("*{end}")]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let files: Vec<_> = listed.lines().map(|line| root().join(line)).collect();
    assert!(!files.is_empty(), "no {end}");
    files
}

/// The crates of a lock file that are not pinned to their content. `own` are the crates of the workspace.
fn loose_crates(lock: &str, own: &[&str]) -> Vec<String> {
    let mut sources = Vec::new();
    let loose = lock.split("[[package]]").skip(1).filter_map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
            line.strip_suffix('"')
        };
        let name = value("name").unwrap_or_default();
        match (value("source"), value("checksum")) {
            (Some(source), Some(checksum)) if source.starts_with("registry+") && checksum.len() == 64 => {
                sources.push(source);
                None
            }
            (None, None) if own.contains(&name) => None,
            _ => Some(name.to_owned()),
        }
    });
    let mut loose: Vec<_> = loose.collect();
    sources.dedup();
    loose.extend(sources.get(1).map(|other| format!("a second registry: {other}")));
    loose
}

/// The packages of an npm lock file that are not pinned to their content, or come from somewhere else than the registry.
fn loose_packages(lock: &Value) -> Vec<String> {
    let packages = lock["packages"].as_object().unwrap().iter().filter(|(path, _)| !path.is_empty());
    let is_loose = |package: &Value| {
        let integrity = package["integrity"].as_str().unwrap_or_default();
        !integrity.starts_with("sha512-") || package.get("resolved").is_some()
    };
    packages.filter(|(_, package)| is_loose(package)).map(|(path, _)| path.clone()).collect()
}

/// The lines of a Python list of packages without an exact version.
fn loose_requirements(list: &str) -> Vec<String> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '-']));
    lines.filter(|line| !line.contains("==")).map(str::to_owned).collect()
}

#[test]
fn sup_01_every_dependency_is_pinned() {
    const OWN: [&str; 5] =
        ["tidegate", "tidegate-bench", "tidegate-document", "tidegate-protocol", "tidegate-vocabulary"];
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert_eq!(loose_crates(&lock, &OWN), Vec::<String>::new());
    for file in tracked("package-lock.json") {
        let lock = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(loose_packages(&lock), Vec::<String>::new(), "{}", file.display());
    }
    for file in tracked("requirements.txt") {
        let list = fs::read_to_string(&file).unwrap();
        assert_eq!(loose_requirements(&list), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn what_is_not_pinned_is_found() {
    let (source, checksum) = ("source = \"registry+x\"\n", format!("checksum = \"{}\"\n", "0".repeat(64)));
    for (package, is_loose) in [
        (format!("name = \"a\"\n{source}{checksum}"), false),
        (format!("name = \"a\"\n{source}"), true),
        (format!("name = \"a\"\nsource = \"git+https://a\"\n{checksum}"), true),
        ("name = \"own\"\n".to_owned(), false),
        ("name = \"by-path\"\n".to_owned(), true),
    ] {
        let lock = format!("version = 4\n\n[[package]]\n{package}");
        assert_eq!(!loose_crates(&lock, &["own"]).is_empty(), is_loose, "{package}");
    }
    let two = format!("[[package]]\n{source}{checksum}[[package]]\nsource = \"registry+y\"\n{checksum}");
    assert_eq!(loose_crates(&two, &[]), ["a second registry: registry+y"]);
    let packages = serde_json::json!({ "packages": {
        "": {}, "good": { "integrity": "sha512-x" }, "none": {}, "other": { "integrity": "sha512-x", "resolved": "git+x" },
    } });
    assert_eq!(loose_packages(&packages), ["none", "other"]);
    assert_eq!(loose_requirements("# a\na==1 \\\n    --hash=x\nb>=2\n"), ["b>=2"]);
}
