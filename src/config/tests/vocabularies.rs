//! Vocabularies that are files: what is said of those that are not there, or not right, or believed too much.

use super::*;

const BELIEVED: &str = "[[role]]\nname = \"believed\"\nsubscribe = { allow = [\"user.{sub}.>\"] }\n";

/// Keys, where they come from, and problems.
fn said(file: &str) -> Vec<(String, String, String)> {
    let mistakes = load_file(file).expect_err(file).0;
    mistakes.into_iter().map(|mistake| (mistake.key, mistake.origin, mistake.message)).collect()
}

fn endpoint(lines: &str) -> String {
    format!("{BELIEVED}[[auth.key]]\nsecret = \"{SECRET}\"\n[[endpoint]]\n{lines}\n")
}

#[test]
fn a_file_names_its_paths_itself() {
    let endpoints = load_file(&endpoint("vocabulary = \"vocabularies/ara.toml\"")).unwrap().config.endpoints;
    let paths: Vec<_> = endpoints[0].paths().collect();
    assert_eq!(paths, ["/ws/predictions/{symbol}", "/ws/market-data/{symbol}", "/ws/alerts"]);
    let both = said(&endpoint("path = \"/ws\"\nvocabulary = \"vocabularies/ara.toml\""));
    assert_eq!((both.len(), both[0].0.as_str()), (1, "endpoint[0].path"));
}

#[test]
fn a_file_that_is_not_there_is_one_mistake() {
    let said = said(&endpoint("vocabulary = \"vocabularies/nothing.toml\""));
    assert_eq!((said.len(), said[0].0.as_str()), (1, "endpoint[0].vocabulary"), "{said:?}");
    assert!(
        said[0].2.ends_with("is no vocabulary: it cannot be read: No such file or directory (os error 2)"),
        "{said:?}"
    );
}

#[test]
fn mistakes_in_a_file_are_said_with_its_name_beside_those_of_the_configuration() {
    let path = std::env::temp_dir().join(format!("tidegate-vocabulary-{}.toml", std::process::id()));
    std::fs::write(
        &path,
        "name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n[[receive]]\ndo = \"jump\"\n",
    )
    .unwrap();
    let name = path.to_str().unwrap();
    let said = said(&endpoint(&format!("vocabulary = \"{name}\"\n[http]\nlistne = 1")));
    std::fs::remove_file(&path).unwrap();
    assert!(
        said.iter().any(|(key, origin, _)| key.starts_with("receive[0].do") && origin == name),
        "{said:?}"
    );
    assert!(said.iter().any(|(key, ..)| key == "http.listne"), "{said:?}");
}

#[test]
fn id_01_who_is_believed_is_who_the_vocabulary_takes_a_client_for() {
    let believe = |file: &str, user: &str| {
        let role = "role = \"believed\"";
        endpoint(&format!(
            "vocabulary = \"vocabularies/{file}.toml\"\nbelieve = {{ user = \"{user}\", {role} }}"
        ))
    };
    for (file, user) in [("financegpt", "path.user_id"), ("sentio", "msg.user_id")] {
        load_file(&believe(file, user)).expect(file);
    }
    let said = said(&believe("stock-agent", "path.client_id"));
    assert_eq!((said.len(), said[0].0.as_str()), (1, "endpoint[0].believe"), "{said:?}");
    assert!(said[0].2.contains("no `require` of stock-agent compares"), "{said:?}");
}

#[test]
fn mistakes_in_a_vocabulary_have_their_line() {
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
        let of_file = found.iter().find(|mistake| mistake.origin == path).unwrap();
        assert_eq!(of_file.place.map(|place| (place.line, place.column)), Some(place), "{found:#?}");
    }
}
