//! "Did you mean": finds the known key that an unknown key was probably meant to be.

use tidegate_document::suggest;

/// Keys of comparable servers, and the key for the same thing here. For the old keys of Tidegate see [`RENAMED_KEYS`].
///
/// [`RENAMED_KEYS`]: crate::config::keys::RENAMED_KEYS
const KEYS_OF_OTHERS: [(&str, &str); 9] = [
    ("http.address", "http.listen"),
    ("http.bind", "http.listen"),
    ("http.port", "http.listen"),
    ("nats.servers", "nats.url"),
    ("nats.credentials", "nats.creds_file"),
    ("auth.audiences", "auth.audience"),
    ("auth.roles_claim", "auth.role_claim"),
    ("log.level", "log.filter"),
    ("limits.max_connections", "limits.connections"),
];

/// The known key or section that is nearest to an unknown key. All are full paths, with `[]` for the elements of a
/// list.
pub(super) fn key(unknown: &str, known: &[&str]) -> Option<String> {
    if let Some((_, new)) = KEYS_OF_OTHERS.iter().find(|(old, _)| *old == unknown) {
        return Some((*new).to_owned());
    }
    let cut = unknown.rfind('.').map_or(0, |dot| dot + 1);
    let (parent, name) = unknown.split_at(cut);
    let below = known.iter().filter_map(|key| key.strip_prefix(parent));
    let siblings: Vec<&str> = below.filter_map(|rest| rest.split(['.', '[']).next()).collect();
    if let Some(sibling) = suggest::closest_word(name, &siblings) {
        return Some(format!("{parent}{sibling}"));
    }
    let elsewhere = known.iter().copied().find(|key| key.rsplit('.').next() == Some(name));
    elsewhere.or_else(|| suggest::closest_word(unknown, known)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_servers_lead_to_keys_that_exist() {
        let keys = crate::config::load::known_keys();
        for (old, new) in KEYS_OF_OTHERS {
            assert!(keys.names().contains(&new) && !keys.names().contains(&old), "{old} {new}");
            assert_eq!(key(old, &keys.names()).as_deref(), Some(new));
        }
    }

    #[test]
    fn the_intended_key_is_found() {
        let known = [
            "http.listen",
            "http.console",
            "nats.url",
            "limits.connections",
            "role[].name",
            "auth.key[].kid",
        ];
        let cases = [
            ("http.lisen", Some("http.listen")),
            ("http.LISTEN", Some("http.listen")),
            ("listen", Some("http.listen")),
            ("htttp.listen", Some("http.listen")),
            ("nats.servers", Some("nats.url")),
            ("server.connections", Some("limits.connections")),
            ("role[].nmae", Some("role[].name")),
            ("auth.key[].id", Some("auth.key[].kid")),
            ("http.zzz", None),
            ("", None),
            ("htpp", Some("http")),
            ("roles", Some("role")),
            ("auth.keys", Some("auth.key")),
        ];
        for (unknown, expected) in cases {
            assert_eq!(key(unknown, &known).as_deref(), expected, "{unknown}");
        }
        assert_eq!(key(&"listen".repeat(100_000), &known), None);
    }
}
