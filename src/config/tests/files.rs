//! Warnings about files that a configuration names: secrets that every user can read, and headers of vocabularies.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// The warnings about one key.
fn warnings(file: &str, key: &str) -> Vec<String> {
    let loaded = load_file(file).expect(file);
    loaded.warnings.into_iter().filter(|warning| warning.key == key).map(|warning| warning.message).collect()
}

fn with_mode(contents: &str, mode: u32) -> Scratch {
    let file = Scratch::new(contents);
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[test]
fn a_secret_that_every_user_can_read_or_change_causes_a_warning() {
    for (mode, can) in [
        (0o666, Some("change")),
        (0o622, Some("change")),
        (0o644, Some("read")),
        (0o640, None),
        (0o600, None),
    ] {
        let file = with_mode(SECRET, mode);
        let path = file.path();
        for (key, text) in [
            ("auth.key[0].secret_file", format!("[[auth.key]]\nsecret_file = \"{path}\"")),
            ("auth.hmac_secret_file", format!("[auth]\nhmac_secret_file = \"{path}\"")),
            ("nats.token_file", format!("[nats]\ntoken_file = \"{path}\"")),
            ("nats.password_file", format!("[nats]\nuser = \"a\"\npassword_file = \"{path}\"")),
            ("nats.creds_file", format!("[nats]\ncreds_file = \"{path}\"")),
            ("nats.nkey_file", format!("[nats]\nnkey_file = \"{path}\"")),
        ] {
            let found = warnings(&text, key);
            let fits = can.is_none_or(|can| found.iter().any(|text| text.contains(&format!("can {can} "))));
            assert!(found.len() == usize::from(can.is_some()) && fits, "{mode:o} {key}: {found:?}");
        }
        let ca = warnings(&format!("[nats]\nca_file = \"{path}\""), "nats.ca_file");
        assert_eq!(ca.len(), usize::from(mode & 0o002 != 0), "certificates are public: {ca:?}");
    }
}

#[test]
fn a_header_that_no_class_passes_on_causes_a_warning() {
    let vocabulary = Scratch::new(
        "name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n[[receive]]\nwhen = { op = \"watch\" }\ndo = \"subscribe\"\n\
         channel = \"chat.a\"\n[[deliver]]\npattern = \"chat.*\"\nsend = { id = \"{nats.Nats-Msg-Id}\", data = \"{data}\" }\n",
    );
    let path = format!("{}.toml", vocabulary.path());
    std::fs::copy(&vocabulary.0, &path).unwrap();
    let with = |class: &str| {
        warnings(&format!("[[endpoint]]\nvocabulary = \"{path}\"\n{class}"), "endpoint[0].vocabulary")
    };
    let found = with("");
    assert!(found.len() == 1 && found[0].contains("{nats.Nats-Msg-Id} is always absent"), "{found:?}");
    assert_eq!(with("[[class]]\npattern = \"chat.>\"\nheaders = [\"traceparent\"]").len(), 1);
    for headers in ["nats-msg-id", "*"] {
        let class = format!("[[class]]\npattern = \"chat.>\"\nheaders = [\"{headers}\"]");
        assert_eq!(with(&class), [""; 0], "{headers}");
    }
    std::fs::remove_file(path).unwrap();
}
