//! Tests of permissions: tables, and decisions against a brute-force oracle.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Decision;
use super::Denial;
use super::Operation;
use super::Permissions;
use super::Role;
use super::RuleTemplates;
use super::Rules;
use super::SYSTEM_ROOTS;
use super::StatsAccess;
use crate::subject::Pattern;
use crate::subject::tests::every_pattern;
use crate::subject::tests::every_subject;
use crate::subject::tests::matched;
use crate::template::PlaceholderValue;
use crate::template::Template;
use crate::template::TemplateError;

const OPERATIONS: [Operation; 3] = [Operation::Subscribe, Operation::Publish, Operation::Request];

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn rules(allow: &[&str], deny: &[&str]) -> Rules {
    Rules {
        allow: allow.iter().map(|text| pattern(text)).collect(),
        deny: deny.iter().map(|text| pattern(text)).collect(),
    }
}

fn everywhere(rules: &Rules) -> Permissions {
    let (subscribe, publish, request) = (rules.clone(), rules.clone(), rules.clone());
    Permissions { subscribe, publish, request, ..Permissions::default() }
}

fn subscribe(allow: &[&str], deny: &[&str], requested: &str) -> Decision {
    let permissions = Permissions { subscribe: rules(allow, deny), ..Permissions::default() };
    permissions.decide(Operation::Subscribe, &pattern(requested))
}

fn allowed(by: &str) -> Decision {
    Decision::Allowed { by: pattern(by) }
}

fn denied(by: &str) -> Decision {
    Decision::Denied(Denial::Denied { by: pattern(by) })
}

const NOT_ALLOWED: Decision = Decision::Denied(Denial::NotAllowed);
const SYSTEM_WILDCARD: Decision = Decision::Denied(Denial::SystemWildcard);

#[test]
fn acl_01_nothing_is_allowed_by_default() {
    for operation in OPERATIONS {
        assert_eq!(Permissions::default().decide(operation, &pattern("admin.users")), NOT_ALLOWED);
    }
    assert_eq!(subscribe(&["prices.*", "user.7.>"], &[], "admin.users"), NOT_ALLOWED);
    assert_eq!(subscribe(&["admin.*"], &[], "admin.users"), allowed("admin.*"));
}

#[test]
fn each_operation_has_its_own_rules() {
    let permissions = Permissions {
        subscribe: rules(&["s"], &[]),
        publish: rules(&["p"], &[]),
        request: rules(&["r"], &[]),
        ..Permissions::default()
    };
    for (operation, mine) in OPERATIONS.into_iter().zip(["s", "p", "r"]) {
        for requested in ["s", "p", "r"] {
            let decision = permissions.decide(operation, &pattern(requested));
            assert_eq!(decision.is_allowed(), requested == mine, "{operation:?} {requested}");
        }
    }
}

#[test]
fn sub_03_a_wildcard_must_be_a_subset() {
    let allow = ["prices.*", "user.7.>"];
    for requested in ["prices.AAPL", "prices.*"] {
        assert_eq!(subscribe(&allow, &[], requested), allowed("prices.*"), "{requested}");
    }
    for requested in ["user.7.>", "user.7.notifications", "user.7.*", "user.7.a.*.>"] {
        assert_eq!(subscribe(&allow, &[], requested), allowed("user.7.>"), "{requested}");
    }
    for requested in
        ["prices", "prices.>", "prices.A.B", "user.*.notifications", "user.>", "user.7", "user.8.a"]
    {
        assert_eq!(subscribe(&allow, &[], requested), NOT_ALLOWED, "{requested}");
    }
    for requested in ["*.7.>", ">", "*", "*.AAPL"] {
        assert_eq!(subscribe(&allow, &[], requested), SYSTEM_WILDCARD, "{requested}");
    }
    assert_eq!(subscribe(&["a.b", "a.c"], &[], "a.*"), NOT_ALLOWED, "patterns do not add up");
}

#[test]
fn sub_04_deny_wins_wherever_it_is_touched() {
    assert_eq!(subscribe(&[">"], &["admin.>"], ">"), SYSTEM_WILDCARD);
    assert_eq!(subscribe(&[">"], &["admin.>"], "*.users"), SYSTEM_WILDCARD);
    assert_eq!(subscribe(&[">"], &["admin.>"], "admin.users"), denied("admin.>"));
    assert_eq!(subscribe(&[">"], &["admin.>"], "admin.*"), denied("admin.>"));
    assert_eq!(subscribe(&[">"], &["admin.>"], "admin"), allowed(">"));
    assert_eq!(subscribe(&[">"], &["admin.>"], "prices.>"), allowed(">"));
    assert_eq!(subscribe(&["room.>"], &["room.*.secret"], "room.>"), denied("room.*.secret"));
    assert_eq!(subscribe(&["room.>"], &["room.*.secret"], "room.1.*"), denied("room.*.secret"));
    assert_eq!(subscribe(&["room.>"], &["room.*.secret"], "room.1.open"), allowed("room.>"));
    assert_eq!(subscribe(&["room.1"], &["*.1"], "room.1"), denied("*.1"));
}

#[test]
fn sub_05_no_role_reaches_system_subjects() {
    let all = everywhere(&rules(&[">", "*", "*.*", "$JS.>", "_INBOX.>", "tidegate.>"], &[]));
    let extra = ["$", "$LDS", "$x", "_INBOX_other", "_INBOXES"];
    for root in SYSTEM_ROOTS.into_iter().chain(extra) {
        for requested in
            [root.to_owned(), format!("{root}.API.INFO"), format!("{root}.>"), format!("{root}.*")]
        {
            for operation in OPERATIONS {
                let decision = all.decide(operation, &pattern(&requested));
                let Decision::Denied(Denial::System { root: named }) = decision else {
                    panic!("{operation:?} {requested}: {decision:?}");
                };
                assert!(root.starts_with(named), "{named} for {requested}");
            }
        }
    }
    for requested in [">", "*", "*.>", "*.foo", "*.*.prices", "*.prices.X"] {
        for operation in OPERATIONS {
            assert_eq!(all.decide(operation, &pattern(requested)), SYSTEM_WILDCARD, "{requested}");
        }
    }
    for requested in ["live.x", "_lives.x", "tidegates.x", "inbox.x", "a.$JS", "a._INBOX.>", "a.tidegate"] {
        assert!(all.decide(Operation::Subscribe, &pattern(requested)).is_allowed(), "{requested}");
    }
}

#[test]
fn sub_06_publish_and_request_need_literal_subjects() {
    let all = everywhere(&rules(&["a.>"], &[]));
    for requested in ["a.*", "a.>", "a.*.b"] {
        assert!(all.decide(Operation::Subscribe, &pattern(requested)).is_allowed());
        for operation in [Operation::Publish, Operation::Request] {
            assert_eq!(
                all.decide(operation, &pattern(requested)),
                Decision::Denied(Denial::NotLiteral),
                "{requested}"
            );
        }
    }
    for operation in OPERATIONS {
        assert_eq!(all.decide(operation, &pattern("a.b")), allowed("a.>"));
    }
}

#[test]
fn merged_roles_add_what_they_allow_and_what_they_deny() {
    let mut permissions = everywhere(&rules(&["a.>"], &["b.secret"]));
    permissions.merge(everywhere(&rules(&["b.>"], &["a.secret"])));
    for operation in OPERATIONS {
        for (requested, answer) in [
            ("a.x", allowed("a.>")),
            ("b.x", allowed("b.>")),
            ("a.secret", denied("a.secret")),
            ("b.secret", denied("b.secret")),
        ] {
            assert_eq!(permissions.decide(operation, &pattern(requested)), answer);
        }
    }
}

#[test]
fn a_role_is_filled_as_a_whole_or_not_at_all() {
    let template = |text: &str| Template::parse(text).unwrap();
    let role = Role {
        name: "user".to_owned(),
        subscribe: RuleTemplates {
            allow: vec![template("prices.*"), template("user.{sub}.>")],
            deny: vec![],
        },
        publish: RuleTemplates { allow: vec![template("chat.>")], deny: vec![template("chat.{org}.secret")] },
        request: RuleTemplates::default(),
        stats: StatsAccess::Counts,
        admin: true,
        control: true,
    };
    assert_eq!(role.placeholders().collect::<Vec<_>>(), ["sub", "org"]);
    let filled = role
        .fill(|placeholder| Some(PlaceholderValue::One(Cow::Owned(format!("my-{placeholder}")))))
        .unwrap();
    assert_eq!(filled.subscribe, rules(&["prices.*", "user.my-sub.>"], &[]));
    assert_eq!(filled.publish, rules(&["chat.>"], &["chat.my-org.secret"]));
    assert_eq!((filled.request, filled.stats, filled.admin), (Rules::default(), StatsAccess::Counts, true));
    let alice = || PlaceholderValue::One(Cow::Borrowed("alice"));
    let without_org = role.fill(|placeholder| (placeholder == "sub").then(alice));
    assert_eq!(without_org, Err(TemplateError::Missing { placeholder: "org".to_owned() }));
    let orgs = |orgs: &'static [&str]| {
        let each = || PlaceholderValue::Each(orgs.iter().map(|org| Cow::Borrowed(*org)).collect());
        role.fill(move |placeholder| Some(if placeholder == "sub" { alice() } else { each() }))
    };
    assert_eq!(orgs(&["a", "b"]).unwrap().publish, rules(&["chat.>"], &["chat.a.secret", "chat.b.secret"]));
    assert_eq!(orgs(&[]).unwrap().publish, rules(&["chat.>"], &[]));
    assert_eq!(orgs(&["a", "*"]), Err(TemplateError::BadToken { placeholder: "org".to_owned() }));
}

#[test]
fn the_role_that_may_see_more_statistics_wins() {
    assert_eq!(Permissions::default().stats, StatsAccess::None);
    let levels = [StatsAccess::None, StatsAccess::Counts, StatsAccess::All];
    for (low, one) in levels.into_iter().enumerate() {
        for (high, other) in levels.into_iter().enumerate() {
            let mut permissions = Permissions { stats: one, ..Permissions::default() };
            permissions.merge(Permissions { stats: other, ..Permissions::default() });
            assert_eq!(permissions.stats, levels[low.max(high)], "{one:?} and {other:?}");
        }
    }
}

#[test]
fn one_role_for_administrators_or_control_is_enough() {
    for (one, other) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut permissions = Permissions { admin: one, control: other, ..Permissions::default() };
        permissions.merge(Permissions { admin: other, control: one, ..Permissions::default() });
        let either = one || other;
        assert_eq!((permissions.admin, permissions.control), (either, either), "{one} and {other}");
    }
}

#[test]
fn denials_explain_why() {
    let cases = [
        (Denial::System { root: "$JS" }, "\"$JS\""),
        (Denial::SystemWildcard, "\"prices.>\""),
        (Denial::NotLiteral, "literal"),
        (Denial::NotAllowed, "allow pattern"),
        (Denial::Denied { by: pattern("admin.>") }, "\"admin.>\""),
    ];
    for (denial, expected) in cases {
        assert!(denial.to_string().contains(expected), "{denial}");
    }
}

struct Oracle {
    subjects: Vec<String>,
    patterns: Vec<(Pattern, BTreeSet<usize>)>,
}

static ORACLE: LazyLock<Oracle> = LazyLock::new(|| {
    let symbols = ["a", "b", "_live"];
    let subjects = every_subject(&symbols, 5);
    let with_set = |pattern: Pattern| (pattern.clone(), matched(&pattern, &subjects));
    let patterns = every_pattern(&symbols).into_iter().map(with_set).collect();
    Oracle { subjects, patterns }
});

/// An index into the oracle's patterns. Short ones come first and are preferred, because they cover more.
fn any_pattern() -> impl Strategy<Value = usize> {
    prop_oneof![0..30_usize, 0..ORACLE.patterns.len()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_agree_with_brute_force(
        allow in vec(any_pattern(), 0..4),
        deny in vec(any_pattern(), 0..3),
        requested in any_pattern(),
    ) {
        let (requested, wanted) = &ORACLE.patterns[requested];
        let of = |indices: &[usize]| indices.iter().map(|&index| &ORACLE.patterns[index]).collect::<Vec<_>>();
        let (allow, deny) = (of(&allow), of(&deny));
        let is_system = wanted.iter().any(|&index| ORACLE.subjects[index].starts_with("_live"));
        let is_denied = deny.iter().any(|(_, set)| !set.is_disjoint(wanted));
        let is_covered = allow.iter().any(|(_, set)| wanted.is_subset(set));
        let may = !is_system && !is_denied && is_covered;
        let patterns = |rules: &[&(Pattern, BTreeSet<usize>)]| rules.iter().map(|rule| rule.0.clone()).collect();
        let permissions = everywhere(&Rules { allow: patterns(&allow), deny: patterns(&deny) });
        prop_assert_eq!(permissions.decide(Operation::Subscribe, requested).is_allowed(), may);
        for operation in [Operation::Publish, Operation::Request] {
            prop_assert_eq!(permissions.decide(operation, requested).is_allowed(), may && wanted.len() == 1);
        }
    }
}
