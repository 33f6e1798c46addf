//! Every number at the edges of its range, and times in their units.

use super::*;
use std::time::Duration;

/// A file in which one number is, with what its list needs next to it.
fn with(key: &str, value: impl std::fmt::Display) -> String {
    let (section, name) = key.rsplit_once('.').unwrap();
    match section.strip_suffix("[]") {
        Some(list) => {
            assert_eq!(list, "class", "another list has numbers now");
            format!("[[class]]\npattern = \"a\"\nkind = \"latest\"\n{name} = {value}")
        }
        None => format!("[{section}]\n{name} = {value}"),
    }
}

fn refused(key: &str, file: &str) -> Vec<Diagnostic> {
    let key = key.replace("[]", "[0]");
    let errors = load_file(file).err().map_or_else(Vec::new, |errors| errors.0);
    errors.into_iter().filter(|error| error.key == key && error.message.contains("range")).collect()
}

#[test]
fn every_number_is_taken_at_both_edges_and_refused_beyond_them() {
    for (key, range) in known_keys().ranges() {
        let (least, most) = (i128::from(*range.start()), i128::from(*range.end()));
        for fine in [least, most] {
            assert_eq!(refused(&key, &with(&key, fine)), [], "{key} = {fine}");
        }
        for wrong in [least - 1, most + 1, i128::from(i64::MIN), i128::from(i64::MAX)] {
            let found = refused(&key, &with(&key, wrong));
            assert_eq!(found.len(), 1, "{key} = {wrong}");
            assert!(found[0].help.contains(&format!("from {least} to {most}")), "{}", found[0]);
        }
        for wrong in ["\"1\"", "1.0", "true", "[1]", "{ a = 1 }", "\"\""] {
            let found = errors_in(&with(&key, wrong));
            assert!(found.iter().any(|error| error.message.ends_with("is not a whole number")), "{found:#?}");
        }
    }
}

#[test]
fn edges_that_exclude_each_other_are_the_only_other_mistakes() {
    for (key, range) in known_keys().ranges() {
        for edge in [*range.start(), *range.end()] {
            let Err(errors) = load_file(&with(&key, edge)) else {
                continue;
            };
            for error in &errors.0 {
                assert!(error.message.contains("than limits."), "{key} = {edge}: {error}");
            }
        }
    }
}

#[test]
fn times_are_in_the_unit_of_their_key() {
    let file = "
        [nats]\nping_interval_s = 7\nrequest_timeout_ms = 1500
        [auth]\nleeway_s = 0\nmax_token_lifetime_s = 3600
        [server]\nfeed_linger_ms = 1
        [limits]\nwrite_timeout_s = 60
        [[class]]\npattern = \"a\"\nkind = \"latest\"\nbatch_ms = 5\nmax_rate_ms = 250\nmax_age_ms = 0\nstale_after_ms = 1";
    let config = load_file(file).unwrap().config;
    assert_eq!(config.nats.ping_interval, Duration::from_secs(7));
    assert_eq!(config.nats.request_timeout, Duration::from_millis(1500));
    assert_eq!(
        (config.auth.leeway, config.auth.max_token_lifetime),
        (Duration::ZERO, Duration::from_secs(3600))
    );
    assert_eq!(config.server.feed_linger, Duration::from_millis(1));
    assert_eq!(config.limits.write_timeout, Duration::from_secs(60));
    let class = &config.classes[0];
    assert_eq!((class.batch, class.max_rate), (Duration::from_millis(5), Some(Duration::from_millis(250))));
    assert_eq!((class.max_age, class.stale_after), (None, Some(Duration::from_millis(1))));
}
