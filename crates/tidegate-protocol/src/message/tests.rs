//! Filters: the bounds of numbers.

use super::*;

fn number(text: &str) -> FilterNumber {
    FilterNumber::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
}

fn passes(min: Option<&str>, max: Option<&str>, value: &str) -> bool {
    let (min, max) = (min.map(number), max.map(number));
    let (name, not) = ("data.id".into(), Box::default());
    let filter = Filter { field: FieldIndex(0), name, values: None, not, min, max };
    filter.passes(value.as_bytes())
}

#[test]
fn whole_numbers_above_2_to_the_53_are_compared_exactly() {
    // 2^53, and the next whole number, which no f64 is.
    let (least, next) = ("9007199254740992", "9007199254740993");
    assert!(passes(Some(least), None, next) && passes(Some(next), None, next));
    assert!(!passes(Some(next), None, least));
    assert!(passes(None, Some(next), least) && !passes(None, Some(least), next));
    for (smaller, larger) in [
        ("-9007199254740993", "-9007199254740992"),
        ("9223372036854775806", "9223372036854775807"),
        ("9223372036854775807", "9223372036854775808"),
        ("18446744073709551614", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775807"),
        ("-1", "18446744073709551615"),
    ] {
        assert!(passes(Some(smaller), None, larger) && !passes(Some(larger), None, smaller), "{larger}");
        assert!(passes(None, Some(larger), smaller) && !passes(None, Some(smaller), larger), "{larger}");
    }
}

#[test]
fn other_numbers_are_compared_as_f64() {
    assert!(passes(Some("1.5"), Some("2"), "2") && !passes(Some("1.5"), None, "1"));
    assert!(passes(Some("2"), Some("2"), "2.0") && passes(Some("2e0"), None, "2"));
    assert!(passes(Some("0"), None, "-0") && passes(Some("18446744073709551615"), None, "1e300"));
    let beyond = "18446744073709551616";
    assert!(passes(Some(beyond), Some(beyond), beyond) && !passes(Some(beyond), None, "1"));
    for nothing in ["", "x", "+1", "NaN", "inf", "1e999", "null", "[1]", &"9".repeat(400)] {
        assert_eq!(FilterNumber::parse(nothing), None, "{nothing}");
        assert!(!passes(Some("-1e308"), None, nothing), "{nothing}");
    }
}

#[test]
fn numbers_have_one_order_and_are_equal_if_it_says_so() {
    let sorted: &[&[&str]] = &[
        &["-1e300"],
        &["-9223372036854775809", "-9223372036854775808", "-9223372036854775808.0"],
        &["-9223372036854775807"],
        &["-1.5"],
        &["-0", "0", "-0.0", "0.0", "0e9"],
        &["1", "1.0", "10e-1"],
        &["1.5"],
        &["9007199254740992", "9007199254740992.0", "9007199254740993.0"],
        &["9007199254740993"],
        &["18446744073709551615"],
        &["18446744073709551616", "18446744073709551616.0"],
        &["1e300"],
    ];
    for (at, equal) in sorted.iter().enumerate() {
        for (other_at, others) in sorted.iter().enumerate() {
            for (one, other) in equal.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
                let (mine, theirs) = (number(one), number(other));
                assert_eq!(mine.partial_cmp(&theirs), Some(at.cmp(&other_at)), "{one} {other}");
                assert_eq!(mine == theirs, at == other_at, "{one} {other}");
            }
        }
    }
}

#[test]
fn a_bound_is_shown_as_it_was_written() {
    for text in ["9007199254740993", "-9223372036854775808", "18446744073709551615", "0", "1.5", "-1"] {
        assert_eq!(number(text).to_string(), text);
    }
}
