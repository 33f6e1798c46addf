//! "Did you mean": the known word that an unknown one was probably meant to be.

/// Names that a key once had, or has in the configuration of comparable servers, and what it is called here.
const RENAMED: [(&str, &str); 9] = [
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

/// Longer words are nobody's slip of the finger, and comparing them would take time.
const LONGEST: usize = 64;

/// The known key or section that an unknown one stands for, all as full paths with `[]` for the elements of a
/// list.
pub(super) fn key(unknown: &str, known: &[&str]) -> Option<String> {
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == unknown) {
        return Some((*new).to_owned());
    }
    let cut = unknown.rfind('.').map_or(0, |dot| dot + 1);
    let (parent, name) = unknown.split_at(cut);
    let below = known.iter().filter_map(|key| key.strip_prefix(parent));
    let siblings: Vec<&str> = below.filter_map(|rest| rest.split(['.', '[']).next()).collect();
    if let Some(sibling) = word(name, &siblings) {
        return Some(format!("{parent}{sibling}"));
    }
    let elsewhere = known.iter().copied().find(|key| key.rsplit('.').next() == Some(name));
    elsewhere.or_else(|| word(unknown, known)).map(str::to_owned)
}

/// The known word next to an unknown one, if one is near enough.
pub(super) fn word<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    if unknown.len() > LONGEST {
        return None;
    }
    let unknown = unknown.to_lowercase();
    let allowed = (unknown.chars().count() / 3).clamp(1, 3);
    let near = known.iter().map(|word| (distance(&unknown, word), *word));
    near.filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How the answer to a mistake begins: with the word that was probably meant, if there is one.
pub(super) fn did_you_mean(unknown: &str, known: &[&str]) -> String {
    word(unknown, known).map_or_else(String::new, |word| format!("did you mean \"{word}\"? "))
}

/// How many letters have to be inserted, removed, replaced or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == right[j - 1] && left[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("listen", "listen", 0),
            ("lsiten", "listen", 1),
            ("liste", "listen", 1),
            ("listenn", "listen", 1),
            ("Listen", "listen", 1),
            ("kitten", "sitting", 3),
            ("ключ", "ключи", 1),
        ];
        for (left, right, expected) in cases {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn renamed_keys_lead_to_keys_that_exist() {
        let keys = crate::config::known_keys();
        for (old, new) in RENAMED {
            assert!(keys.names().contains(&new) && !keys.names().contains(&old), "{old} {new}");
            assert_eq!(key(old, &keys.names()).as_deref(), Some(new));
        }
    }

    #[test]
    fn the_key_that_was_meant_is_found() {
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
