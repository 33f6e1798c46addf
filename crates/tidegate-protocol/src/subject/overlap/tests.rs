//! The number of patterns that match one subject, compared with trying all subjects.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ENOUGH: usize = 1_000_000;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn depth(patterns: &[&str], within: &str, bound: usize, mut steps: usize) -> usize {
    let patterns: Vec<_> = patterns.iter().map(|text| pattern(text)).collect();
    deepest(patterns.iter(), &pattern(within), bound, &mut steps)
}

#[test]
fn patterns_count_where_they_meet_in_one_subject() {
    for (patterns, within, expected) in [
        (&[][..], ">", 0),
        (&["a.*", "b.*", "c.*"], ">", 1),
        (&["a.*", "b.*", "c.*", "*.x"], ">", 2),
        (&["a.*", "a.>", ">", "*.x"], "a.b", 3),
        (&["a.*", "a.>", ">", "*.x"], "a.*", 4),
        (&["a.>", "a.*.>", "a.*"], "a.>", 2),
        (&["a.*", "a.*.*", "a.*.*.*"], "a.>", 1),
        (&["user.1.>", "user.2.>", "user.3.>"], "user.*.mail", 1),
        (&["*.*", "*.*", "x.*"], "y.z", 2),
        (&["a.b.>"], "a.b", 0),
    ] {
        assert_eq!(depth(patterns, within, 100, ENOUGH), expected, "{patterns:?} within {within}");
    }
}

#[test]
fn the_count_stops_at_the_bound_and_when_the_steps_run_out() {
    assert_eq!(depth(&["*", ">", "a", "*"], ">", 3, ENOUGH), 3);
    // Each pattern is free everywhere except at one place, so there are very many combinations.
    let many: Vec<String> = (0..16_usize)
        .flat_map(|at| (0..3).map(move |name| (at, name)))
        .map(|(at, name)| {
            let token = |place| if place == at { format!("n{name}") } else { "*".to_owned() };
            (0..16).map(token).collect::<Vec<_>>().join(".")
        })
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(depth(&many, ">", 40, 5_000), 40, "without steps, the answer is the bound");
}

/// All subjects of up to four tokens.
fn subjects() -> Vec<String> {
    let mut all: Vec<String> = vec![String::new()];
    let mut longest = all.clone();
    for _ in 0..4 {
        longest = longest
            .iter()
            .flat_map(|shorter| {
                ["a", "b", "c"].map(|token| {
                    if shorter.is_empty() { token.to_owned() } else { format!("{shorter}.{token}") }
                })
            })
            .collect();
        all.extend(longest.iter().cloned());
    }
    all.retain(|subject| !subject.is_empty());
    all
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let token = prop_oneof![Just("a"), Just("b"), Just("*")];
    (vec(token, 0..4), any::<bool>()).prop_filter_map("empty", |(mut tokens, has_tail)| {
        if has_tail && tokens.len() < 4 {
            tokens.push(">");
        }
        (!tokens.is_empty()).then(|| pattern(&tokens.join(".")))
    })
}

proptest! {
    #[test]
    fn the_depth_agrees_with_brute_force(patterns in vec(any_pattern(), 0..10), within in any_pattern()) {
        let meets = |subject: &str| patterns.iter().filter(|pattern| pattern.matches(subject)).count();
        let within_all = subjects().into_iter().filter(|subject| within.matches(subject));
        let expected = within_all.map(|subject| meets(&subject)).max().unwrap_or_default();
        let mut steps = ENOUGH;
        prop_assert_eq!(deepest(patterns.iter(), &within, 100, &mut steps), expected);
        for bound in 1..10 {
            prop_assert_eq!(reaches(patterns.iter(), &within, bound, &mut steps), expected >= bound);
        }
    }
}
