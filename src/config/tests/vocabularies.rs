//! Vocabulary files: their paths, and their errors next to those of the configuration.

use super::*;

/// The keys and origins of all errors.
fn errors(file: &str) -> Vec<(String, String)> {
    let errors = load_file(file).expect_err(file).0;
    errors.into_iter().map(|error| (error.key, error.origin)).collect()
}

fn endpoint(lines: &str) -> String {
    format!("[[auth.key]]\nsecret = \"{SECRET}\"\n[[endpoint]]\n{lines}\n")
}

#[test]
fn a_file_names_its_paths() {
    let endpoints = load_file(&endpoint("vocabulary = \"vocabularies/ara.toml\"")).unwrap().config.endpoints;
    let paths: Vec<_> = endpoints[0].paths().collect();
    assert_eq!(paths, ["/ws/predictions/{symbol}", "/ws/market-data/{symbol}", "/ws/alerts"]);
}

#[test]
fn a_vocabulary_encodes_users_where_the_configuration_names_their_claim() {
    for (auth, encodes) in [("", false), ("[auth]\nuser_claim = \"email\"\n", true)] {
        let file = format!("{auth}{}", endpoint("vocabulary = \"vocabularies/hoardrun.toml\""));
        let endpoints = load_file(&file).unwrap().config.endpoints;
        assert_eq!(endpoints[0].file.as_ref().unwrap().0.encodes_users, encodes, "{auth}");
    }
}

#[test]
fn errors_in_a_vocabulary_name_its_file_and_do_not_hide_those_of_the_configuration() {
    let path = std::env::temp_dir().join(format!("tidegate-vocabulary-{}.toml", std::process::id()));
    std::fs::write(
        &path,
        "name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n[[receive]]\ndo = \"jump\"\n",
    )
    .unwrap();
    let name = path.to_str().unwrap();
    let errors = errors(&endpoint(&format!("vocabulary = \"{name}\"\n[http]\nlistne = 1")));
    std::fs::remove_file(&path).unwrap();
    assert!(
        errors.iter().any(|(key, origin)| key.starts_with("receive[0].do") && origin == name),
        "{errors:?}"
    );
    assert!(errors.iter().any(|(key, _)| key == "http.listne"), "{errors:?}");
}

#[test]
fn errors_in_a_vocabulary_have_their_line() {
    for (text, place) in [
        (
            "name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n[[receive]]\nwhen = {}\ndo = \"jump\"\n",
            (7, 1),
        ),
        ("name = \"x\"\nbroken\n", (2, 7)),
    ] {
        let file = Scratch::new("");
        let path = format!("{}.toml", file.path());
        std::fs::write(&path, text).unwrap();
        let found = load_file(&endpoint(&format!("vocabulary = \"{path}\""))).unwrap_err().0;
        std::fs::remove_file(&path).unwrap();
        let of_file = found.iter().find(|error| error.origin == path).unwrap();
        assert_eq!(of_file.place.map(|place| (place.line, place.column)), Some(place), "{found:#?}");
    }
}
