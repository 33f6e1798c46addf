//! Tests of subjects and patterns: tables, and all small patterns against a naive oracle.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Pattern;
use super::Subject;
use super::SubjectError;
use super::SubjectLimits;

/// Matching as NATS documents it, written again as plainly as possible.
pub(crate) fn naive_match(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => naive_match(pattern, subject),
        ([mine, pattern @ ..], [theirs, subject @ ..]) => mine == theirs && naive_match(pattern, subject),
        _ => false,
    }
}

/// All sequences of `1..=longest` of these tokens, joined by dots.
pub(crate) fn every_subject(symbols: &[&str], longest: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..longest {
        last =
            last.iter().flat_map(|head| symbols.iter().map(move |token| format!("{head}.{token}"))).collect();
        all.extend(last.iter().map(|text| text[1..].to_owned()));
    }
    all
}

/// All valid patterns of up to four tokens over these symbols, `*` and `>`.
pub(crate) fn every_pattern(symbols: &[&str]) -> Vec<Pattern> {
    let tokens: Vec<&str> = symbols.iter().copied().chain(["*", ">"]).collect();
    every_subject(&tokens, 4).iter().filter_map(|text| Pattern::parse(text).ok()).collect()
}

/// The indices of the subjects that the pattern matches. Some subjects must be longer than any pattern, otherwise
/// `a.*` and `a.>` would look the same.
pub(crate) fn matched(pattern: &Pattern, subjects: &[String]) -> BTreeSet<usize> {
    let pattern: Vec<&str> = pattern.as_str().split('.').collect();
    let is_match = |text: &String| naive_match(&pattern, &text.split('.').collect::<Vec<_>>());
    (0..subjects.len()).filter(|&index| is_match(&subjects[index])).collect()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

#[test]
fn good_subjects() {
    for text in ["a", "prices.AAPL", "user.7.notifications", "$SYS.x", "a-b_c=d@e:f/g", "größe.日本", "a{b}"]
    {
        let subject = Subject::parse(text).unwrap();
        assert_eq!(subject.as_str(), text);
        assert_eq!(subject.to_string(), text);
        assert_eq!(subject.tokens().collect::<Vec<_>>().join("."), text);
        assert_eq!(Pattern::from(subject.clone()).as_subject(), Some(subject));
    }
}

#[test]
fn sub_06_malformed_and_wildcard_subjects() {
    let cases = [
        ("", SubjectError::Empty),
        (".", SubjectError::EmptyToken { position: 1 }),
        ("a..b", SubjectError::EmptyToken { position: 2 }),
        (".a", SubjectError::EmptyToken { position: 1 }),
        ("a.", SubjectError::EmptyToken { position: 2 }),
        ("a.*", SubjectError::Wildcard),
        (">", SubjectError::Wildcard),
        ("a*b.c", SubjectError::WildcardInToken { position: 1 }),
        ("a.>b", SubjectError::WildcardInToken { position: 2 }),
        ("a.**", SubjectError::WildcardInToken { position: 2 }),
        ("a.>.b", SubjectError::TailNotLast),
        ("a b", SubjectError::BadCharacter { character: ' ' }),
        ("a\tb", SubjectError::BadCharacter { character: '\t' }),
        ("a\r\nPUB x 1", SubjectError::BadCharacter { character: '\r' }),
        ("a\0", SubjectError::BadCharacter { character: '\0' }),
        ("a\u{7f}", SubjectError::BadCharacter { character: '\u{7f}' }),
        ("a\u{85}", SubjectError::BadCharacter { character: '\u{85}' }),
        ("a\u{a0}b", SubjectError::BadCharacter { character: '\u{a0}' }),
        ("a\u{2028}b", SubjectError::BadCharacter { character: '\u{2028}' }),
        ("a\u{3000}b", SubjectError::BadCharacter { character: '\u{3000}' }),
    ];
    for (text, error) in cases {
        assert_eq!(Subject::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn good_and_bad_patterns() {
    for (text, literal) in
        [("a", true), ("a.b", true), ("*", false), (">", false), ("a.*.b", false), ("a.>", false)]
    {
        assert_eq!(pattern(text).is_literal(), literal, "{text}");
        assert_eq!(pattern(text).as_subject().is_some(), literal, "{text}");
        assert_eq!(pattern(text).to_string(), text);
    }
    for text in ["", ".", "a..b", "a*b", "*a", "a.>.b", ">.", ">>", "a. b"] {
        assert!(Pattern::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn errors_escape_what_they_show() {
    assert_eq!(
        Subject::parse("a\nb").unwrap_err().to_string(),
        r"the subject contains '\n'; white space and control characters are not allowed"
    );
}

#[test]
fn matches_covers_and_overlaps_agree_with_brute_force() {
    let symbols = ["a", "b", "c"];
    let subjects = every_subject(&symbols, 5);
    let patterns: Vec<_> = every_pattern(&symbols)
        .into_iter()
        .map(|pattern| {
            let set = matched(&pattern, &subjects);
            for (index, subject) in subjects.iter().enumerate() {
                assert_eq!(pattern.matches(subject), set.contains(&index), "{pattern} matches {subject}");
            }
            (pattern, set)
        })
        .collect();
    assert_eq!((subjects.len(), patterns.len()), (363, 425));
    for (mine, my_set) in &patterns {
        for (theirs, their_set) in &patterns {
            assert_eq!(mine.covers(theirs), their_set.is_subset(my_set), "{mine} covers {theirs}");
            assert_eq!(mine.overlaps(theirs), !their_set.is_disjoint(my_set), "{mine} overlaps {theirs}");
        }
    }
}

#[test]
fn the_most_specific_pattern_wins() {
    let ordered =
        [">", "*.>", "*.b", "prices.>", "prices.*.>", "prices.*.US", "prices.AAPL.*", "prices.AAPL.US"];
    for pair in ordered.windows(2) {
        assert!(pattern(pair[0]).specificity() < pattern(pair[1]).specificity(), "{pair:?}");
    }
    assert_eq!(pattern("a.*").specificity(), pattern("b.*").specificity());
}

#[test]
fn limits() {
    let limits = SubjectLimits::default();
    let of_bytes = |bytes: usize| pattern(&"a".repeat(bytes));
    let of_tokens = |tokens: usize| pattern(&vec!["a"; tokens].join("."));
    assert_eq!(limits.check(&of_bytes(256)), Ok(()));
    assert_eq!(limits.check(&of_bytes(257)), Err(SubjectError::TooLong { bytes: 257, max: 256 }));
    assert_eq!(limits.check(&of_tokens(16)), Ok(()));
    assert_eq!(limits.check(&of_tokens(17)), Err(SubjectError::TooManyTokens { tokens: 17, max: 16 }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_parses_is_safe_on_the_wire(text in "[ab.*>\\PC \\t\\r\\n]{0,12}") {
        if let Ok(subject) = Subject::parse(&text) {
            prop_assert!(!subject.as_str().contains(['*', '>', ' ', '\t', '\r', '\n', '\0']));
            prop_assert!(subject.tokens().all(|token| !token.is_empty()));
        }
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert!(pattern.covers(&pattern) && pattern.overlaps(&pattern));
            prop_assert_eq!(pattern.is_literal(), Subject::parse(&text).is_ok());
        } else {
            prop_assert!(Subject::parse(&text).is_err());
        }
    }
}
