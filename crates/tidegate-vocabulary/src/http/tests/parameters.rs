//! Query parameters and headers that cannot be used.

use crate::http::Lookup;
use crate::http::tests::choice::look_up;

#[test]
fn a_parameter_or_header_that_cannot_be_used_is_not_taken_for_an_absent_one() {
    let wrong = |target: &str, kind| match look_up("POST", target, kind) {
        Lookup::BadParameter(wrong) => wrong,
        Lookup::Found(_) => "found".to_owned(),
        Lookup::OtherMethod(_) | Lookup::BadValue | Lookup::Unmatched | Lookup::Nothing => {
            "not found".to_owned()
        }
    };
    let long: &'static str = "b".repeat(1025).leak();
    for (target, found) in [
        ("/say?room=r&x=1", "found"),
        (&*format!("/say?room={}", &long[..1024]), "found"),
        (&*format!("/say?room={long}"), "the query parameter `room` has more than 1024 bytes"),
        (&*format!("/say?room=r&room[]={long}"), "the query parameter `room` has more than 1024 bytes"),
        ("/say?room=%zz", "the query parameter `room` has an invalid escape"),
        (
            "/say?Room=r",
            "the query parameter `Room` is unknown: write `room`, because names are case-sensitive",
        ),
    ] {
        assert_eq!(wrong(target, Some("b")), found, "{target}");
    }
    assert_eq!(wrong("/say?room=r", Some(long)), "the header `x-kind` has more than 1024 bytes");
    assert_eq!(
        wrong("/say?room=r", Some("é")),
        "the header `x-kind` has characters other than visible ASCII"
    );
}
