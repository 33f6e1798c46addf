//! Which route a subscription has.

use super::*;
use crate::compile::compile;

/// The route of `a.*` in a file with these `[[deliver]]`, each with its `when` and `send`.
fn route(pattern: &str, rules: &[(&str, &str)]) -> Route {
    let mut file = "name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x\"\n[[receive]]\ndo = \"subscribe\"\n\
                    channels = [\"a.*\", \"b.*\"]\n[[deliver]]\npattern = \"b.*\"\nsend = 1\n"
        .to_owned();
    for (when, send) in rules {
        file += &format!("[[deliver]]\npattern = \"a.*\"\nwhen = {when}\nsend = {send}\n");
    }
    let vocabulary = compile(&file).unwrap_or_else(|mistakes| panic!("{mistakes:?}")).vocabulary;
    vocabulary.route(PathIndex(0), &Pattern::parse(pattern).unwrap())
}

#[test]
fn one_rule_is_the_route_only_if_no_other_may_show_what_it_cannot() {
    let (alone, of_path) = (Route::Deliver(DeliverIndex(1)), Route::Path(PathIndex(0)));
    let (all, some) = ("{}", "{ data = { x = 1 } }");
    let spread = "{ \"...\" = \"{data}\" }";
    for (rules, expected) in [
        (&[(all, "\"{data}\"")][..], alone),
        (&[(all, spread)], alone),
        (&[(all, spread), (all, "\"{data}\"")], of_path),
        (&[(all, "\"{data}\""), (all, "1")], of_path),
        (&[(some, "\"{data}\""), (all, "\"{data}\"")], of_path),
    ] {
        assert_eq!(route("a.x", rules), expected, "{rules:?}");
    }
    assert_eq!(route("b.x", &[(all, spread), (all, "1")]), Route::Deliver(DeliverIndex(0)));
    assert_eq!(route("*.*", &[(all, "1")]), of_path, "the first rule does not cover it");
}
