//! The shipped vocabularies, read from the folder `vocabularies`. Tests, benches and the fuzz targets have this file as a
//! module, so that all of them find a new vocabulary.

use std::path::Path;

/// The name and the text of each vocabulary in the repository with this root, by name.
pub(crate) fn shipped(root: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root.join("vocabularies")).unwrap();
    let mut shipped: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let name = name.strip_suffix(".toml").filter(|name| !name.ends_with(".config"))?;
            Some((name.to_owned(), std::fs::read_to_string(entry.path()).unwrap()))
        })
        .collect();
    shipped.sort();
    assert!(shipped.len() >= 8, "the folder of vocabularies is there");
    shipped
}
