//! Which of several routes with one method and path takes a request.

use super::*;

const CHOICE: &str = r#"
    name = "choice"
    [[path]]
    name = "a"
    path = "/a"
    [[http]]
    method = "POST"
    path = "/say"
    when = { query = { room = true }, header = { x-kind = ["a", "b"] } }
    do = "send"
    send = { room = "{query.room}" }
    [[http]]
    method = "POST"
    path = "/say"
    when = { msg = { to = { user = true }, n = [1, 2] } }
    do = "publish"
    subject = "own.{msg.to.user}"
    data = "{msg}"
    send = { to = "{msg.to.user}" }
    [[http]]
    method = "POST"
    path = "/say"
    when = { msg = { all = [true] } }
    do = "send"
    send = "all"
    [[http]]
    method = "GET"
    path = "/room/{room}"
    when = { path = { room = "none" } }
    do = "send"
    status = 404
    [[http]]
    method = "GET"
    path = "/room/{room}"
    do = "last"
    channel = "own.{path.room}"
    send = "{data}"
    [[http]]
    method = "GET"
    path = "/user/{name}"
    when = { query = { room = true } }
    do = "last"
    channel = "own.{path.name}"
    send = "{data}"
    [[http]]
    method = "GET"
    path = "/user/{name}"
    require = { "path.name" = "{user}" }
    do = "send"
    send = "{path.name}"
"#;

/// The route for a request, as far as it is known without its body.
pub(super) fn look_up(method: &str, target: &str, kind: Option<&'static str>) -> Lookup {
    let vocabulary = Arc::new(compile(CHOICE).unwrap().vocabulary);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    vocabulary.lookup(VocabularyId(1), method, path, query, |name| {
        kind.filter(|_| name == "x-kind").map(str::as_bytes)
    })
}

#[test]
fn the_first_route_of_a_path_whose_when_holds_is_used() {
    let answer = |target: &str, body: &str| {
        call_of(CHOICE, "POST", target, body, identity(&["*"], StatsAccess::None), default_settings())
    };
    let to_user = r#"{"to":{"user":"ann"},"n":2,"all":true}"#;
    assert_eq!(answer("/say", to_user), (1, json(200, r#"{"to":"ann"}"#)));
    assert_eq!(answer("/say?room=r", r#"{"n":3,"all":true,"to":{"user":"ann"}}"#), (0, json(200, "\"all\"")));
    for body in ["", "{}", "[]", "1", r#"{"all":false}"#, r#"{"to":"ann","n":1}"#] {
        let (outputs, refused) = answer("/say", body);
        let is_bad = matches!(&refused, HttpAnswer::Refused(error) if error.code == ErrorCode::BadRequest);
        assert!(outputs == 0 && is_bad, "{body}: {refused:?}");
    }
    let Lookup::Found(route) = look_up("POST", "/say?room=r", Some("b")) else { panic!() };
    assert!(!route.needs_identity(), "its header and query hold, and it only answers");
    let accepted = route.accept(SessionScope::default(), Some(to_user.to_owned())).unwrap();
    assert_eq!(accepted.health(SessionScope::default(), "ok"), json(200, r#"{"room":"r"}"#));
    let Lookup::Found(route) = look_up("POST", "/say?room=r", Some("c")) else { panic!() };
    assert!(route.needs_identity(), "the body may choose the route that publishes");
}

#[test]
fn a_when_on_the_path_chooses_before_the_body_is_read() {
    let Lookup::Found(route) = look_up("GET", "/room/none", None) else { panic!() };
    assert!(!route.needs_identity());
    let accepted = route.accept(SessionScope::default(), None).unwrap();
    assert_eq!(accepted.health(SessionScope::default(), "ok"), HttpAnswer::Status(404));
    let Lookup::Found(route) = look_up("GET", "/room/some", None) else { panic!() };
    assert!(route.needs_identity());
    assert!(matches!(look_up("GET", "/room/*", None), Lookup::BadValue));
    assert!(matches!(look_up("PUT", "/room/some", None), Lookup::OtherMethod(_)));
}

#[test]
fn a_value_in_the_path_must_be_a_token_only_for_the_route_that_uses_it_in_a_subject() {
    let email = "/user/a.b@example.org";
    assert!(matches!(look_up("GET", email, None), Lookup::Found(_)));
    assert!(matches!(look_up("GET", &format!("{email}?room=r"), None), Lookup::BadValue));
    assert!(matches!(look_up("GET", "/user/ann?room=r", None), Lookup::Found(_)));
    for hostile in ["%00", "%0A", &"x".repeat(129)] {
        assert!(matches!(look_up("GET", &format!("/user/{hostile}"), None), Lookup::BadValue), "{hostile}");
    }
}

#[test]
fn a_request_that_no_when_takes_is_not_found_under_another_name() {
    let file = CHOICE.replace("when = { msg = { to", "when = { query = { to = true }, msg = { to");
    let file = file.replace("when = { msg = { all = [true] } }", "when = { query = { all = true } }");
    let vocabulary = Arc::new(compile(&file).unwrap().vocabulary);
    let found = |query| vocabulary.lookup(VocabularyId(1), "POST", "/say", Some(query), |_| None);
    assert!(matches!(found("x=1"), Lookup::Unmatched));
    assert!(matches!(found("all=1"), Lookup::Found(_)));
}

/// Calls to a user: one uses the name in a subject, the other does not.
const PUBLISH: &str = r#"
    [[http]]
    method = "POST"
    path = "/u/{name}"
    when = { msg = { to = true } }
    do = "publish"
    subject = "own.{path.name}"
    data = "{msg}"
    send = "published"
"#;
const SAY: &str = r#"
    [[http]]
    method = "POST"
    path = "/u/{name}"
    when = { msg = { say = true } }
    do = "send"
    send = "{path.name}"
"#;

#[test]
fn a_value_in_the_path_is_checked_for_the_route_that_the_body_chooses_in_any_order() {
    let head = "name = \"order\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n";
    for calls in [[PUBLISH, SAY], [SAY, PUBLISH]] {
        let file = head.to_owned() + &calls.concat();
        let answer = |name: &str, body: &str| {
            let who = identity(&["*"], StatsAccess::None);
            call_of(&file, "POST", &format!("/u/{name}"), body, who, default_settings())
        };
        let is_refused = |(outputs, answer): (usize, HttpAnswer)| {
            let is_bad = matches!(&answer, HttpAnswer::Refused(error) if error.code == ErrorCode::BadRequest);
            outputs == 0 && is_bad
        };
        assert_eq!(answer("a.b@example.org", r#"{"say":1}"#), (0, json(200, r#""a.b@example.org""#)));
        assert!(is_refused(answer("a.b@example.org", r#"{"to":1}"#)));
        assert!(is_refused(answer("a.b@example.org", r#"{"n":1}"#)));
        assert_eq!(answer("ann", r#"{"to":1}"#), (1, json(200, r#""published""#)));
        assert_eq!(answer("ann", r#"{"say":1}"#), (0, json(200, r#""ann""#)));
    }
    let vocabulary = Arc::new(compile(&(head.to_owned() + PUBLISH)).unwrap().vocabulary);
    let alone =
        |name: &str| vocabulary.lookup(VocabularyId(1), "POST", &format!("/u/{name}"), None, |_| None);
    assert!(matches!(alone("a.b"), Lookup::BadValue) && matches!(alone("ann"), Lookup::Found(_)));
}

#[test]
fn a_route_that_the_value_does_not_fit_decides_neither_for_later_routes_nor_about_the_identity() {
    let file = format!(
        "name = \"order\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n{PUBLISH}{}",
        SAY.replace("when = { msg = { say = true } }", "")
    );
    let vocabulary = Arc::new(compile(&file).unwrap().vocabulary);
    let found = |name: &str| match vocabulary.lookup(VocabularyId(1), "POST", name, None, |_| None) {
        Lookup::Found(route) => route,
        Lookup::OtherMethod(_)
        | Lookup::BadValue
        | Lookup::BadParameter(_)
        | Lookup::Unmatched
        | Lookup::Nothing => panic!("{name}"),
    };
    assert!(found("/u/ann").needs_identity() && !found("/u/a.b").needs_identity());
    let accepted = found("/u/a.b").accept(SessionScope::default(), Some("{}".to_owned())).unwrap();
    assert_eq!(accepted.health(SessionScope::default(), "ok"), json(200, r#""a.b""#));
}
