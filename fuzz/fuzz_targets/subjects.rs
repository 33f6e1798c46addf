//! Parses any two texts as patterns, and checks that `covers`, `overlaps` and `matches` are consistent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::subject::Pattern;

fuzz_target!(|input: (&str, &str)| {
    let (Ok(one), Ok(other)) = (Pattern::parse(input.0), Pattern::parse(input.1)) else { return };
    assert!(one.covers(&one) && one.overlaps(&one));
    assert_eq!(one.overlaps(&other), other.overlaps(&one));
    if one.covers(&other) {
        assert!(one.overlaps(&other), "{one:?} {other:?}");
    }
    if other.is_literal() {
        assert_eq!(one.covers(&other), one.matches(other.as_str()), "{one:?} {other:?}");
    }
});
