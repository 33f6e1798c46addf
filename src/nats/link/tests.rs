//! The link in single cases.

mod model;

use std::collections::BTreeSet;

use super::*;
use crate::nats::error::NatsError;
use crate::nats::outgoing::Outgoing;

const INTERVAL: Duration = Duration::from_secs(5);
/// What the server of these tests does not let anybody subscribe to.
const DENIED: &str = "no.way";

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn link(now: Instant) -> Link {
    Link::new(INTERVAL, now)
}

fn open(link: &mut Link, now: Instant) {
    link.open(Info::default(), b"CONNECT {}\r\n", BytesMut::new(), now);
}

/// What the link sends, all at once.
fn sends(link: &mut Link) -> String {
    let text = String::from_utf8(link.unsent().to_vec()).unwrap();
    link.sent(text.len());
    text
}

fn says(link: &mut Link, bytes: &str) -> Vec<String> {
    link.room().extend_from_slice(bytes.as_bytes());
    link.received();
    hears(link)
}

fn hears(link: &mut Link) -> Vec<String> {
    let mut words = Vec::new();
    while link.has_more() {
        let mut batch = Vec::new();
        link.take(3, &mut batch);
        words.extend(batch.iter().map(word));
    }
    words
}

fn word(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Opened(key) => format!("{} opened", key.0),
        Incoming::Failed(key, NatsError::Denied) => format!("{} denied", key.0),
        Incoming::Failed(key, _) => format!("{} failed", key.0),
        Incoming::Message(key, message) => {
            format!("{} {} {}", key.0, message.subject(), String::from_utf8_lossy(&message.payload()))
        }
        Incoming::Malformed(key) => format!("{} malformed", key.0),
        Incoming::Interrupted(key) => format!("{} interrupted", key.0),
        Incoming::LinkLost => "link lost".to_owned(),
    }
}

fn up(now: Instant, patterns: &[&str]) -> Link {
    let mut link = link(now);
    for text in patterns {
        link.subscribe(&pattern(text));
    }
    open(&mut link, now);
    assert_eq!(sends(&mut link), "CONNECT {}\r\nPING\r\n");
    assert_eq!(says(&mut link, "PONG\r\n"), Vec::<String>::new());
    assert!(link.is_up());
    link
}

/// Sorted, because a table has no order.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_was_subscribed_before_there_was_a_connection_opens_with_one_ping() {
    let mut link = up(Instant::now(), &["a", "b.>"]);
    assert_eq!(lines(&sends(&mut link)), ["PING", "SUB a 1", "SUB b.> 2"]);
    let mut opened = says(&mut link, "MSG a 1 2\r\nhi\r\nPONG\r\n");
    assert_eq!(opened.remove(0), "1 a hi", "messages may come first");
    opened.sort();
    assert_eq!(opened, ["1 opened", "2 opened"]);
}

#[test]
fn a_subscription_opens_with_the_pong_behind_it_and_not_with_one_before() {
    let mut link = up(Instant::now(), &[]);
    link.subscribe(&pattern("a"));
    assert_eq!(sends(&mut link), "SUB a 1\r\nPING\r\n");
    link.subscribe(&pattern("b"));
    link.subscribe(&pattern("c"));
    assert_eq!(says(&mut link, "PONG\r\n"), ["1 opened"]);
    assert_eq!(sends(&mut link), "SUB b 2\r\nSUB c 3\r\nPING\r\n");
    link.unsubscribe(SubscriptionKey(2));
    assert_eq!(sends(&mut link), "UNSUB 2\r\n");
    assert_eq!(says(&mut link, "MSG b 2 1\r\nx\r\nPONG\r\n"), ["2 b x", "3 opened"], "on its way already");
}

#[test]
fn whoever_is_denied_hears_it_and_others_open() {
    let mut link = up(Instant::now(), &["a", DENIED]);
    sends(&mut link);
    let denial = format!("-ERR 'Permissions Violation for Subscription to \"{DENIED}\"'\r\n");
    assert_eq!(says(&mut link, &format!("{denial}PONG\r\n")), ["2 denied", "1 opened"]);
    link.unsubscribe(SubscriptionKey(2));
    assert_eq!(sends(&mut link), "UNSUB 2\r\n", "for a server that thinks otherwise");
}

#[test]
fn many_denials_are_found_in_time() {
    let subjects: Vec<_> = (0..20_000).map(|number| format!("s{number}")).collect();
    let patterns: Vec<_> = subjects.iter().map(String::as_str).collect();
    let mut link = up(Instant::now(), &patterns);
    let asked = sends(&mut link);
    let asked = asked.lines().filter_map(|line| line.strip_prefix("SUB ")?.split(' ').next());
    let denials =
        asked.map(|subject| format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n"));
    let denials = denials.collect::<String>() + "PONG\r\n";
    let heard: Vec<_> = denials
        .as_bytes()
        .chunks(1000)
        .flat_map(|chunk| {
            link.room().extend_from_slice(chunk);
            link.received();
            hears(&mut link)
        })
        .collect();
    assert_eq!(heard.len(), subjects.len());
    assert!(heard.iter().all(|word| word.ends_with("denied")));
}

#[test]
fn a_refusal_that_names_nobody_fails_all_that_were_asked_for() {
    let mut link = up(Instant::now(), &["a"]);
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    link.subscribe(&pattern("b"));
    link.subscribe(&pattern("c"));
    sends(&mut link);
    let heard = says(&mut link, "-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n");
    assert_eq!(heard, ["2 failed", "3 failed"]);
    assert!(link.is_up());
}

#[test]
fn what_the_server_takes_back_is_asked_for_again() {
    let start = Instant::now();
    let mut link = up(start, &["a", "b"]);
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    let taken = "-ERR 'Permissions Violation for Subscription to \"a\" (sid \"1\")'\r\n";
    assert_eq!(says(&mut link, taken), ["1 interrupted"]);
    let later = link.timeout().unwrap() + INTERVAL + RETRY;
    link.on_time(later);
    assert_eq!(lines(&sends(&mut link)), ["PING", "SUB a 1"]);
    let still = "-ERR 'Permissions Violation for Subscription to \"a\"'\r\n";
    assert_eq!(says(&mut link, &format!("{still}PONG\r\n")), Vec::<String>::new());
    link.on_time(later + RETRY);
    sends(&mut link);
    assert_eq!(says(&mut link, "PONG\r\n"), ["1 opened"]);
    link.on_time(later + RETRY + RETRY);
    assert!(!sends(&mut link).contains("SUB"));
}

#[test]
fn what_comes_before_a_loss_stands_before_it() {
    let start = Instant::now();
    let mut link = up(start, &["a"]);
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    link.room().extend_from_slice(b"MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\nMSG a 1 1\r");
    link.received();
    link.cut("test");
    assert!(link.unsent().is_empty() && link.is_up());
    assert_eq!(hears(&mut link), ["1 a 1", "1 a 2", "link lost"]);
    assert_eq!((link.ended().as_deref(), link.ended(), link.is_up()), (Some("test"), None, false));
    open(&mut link, start);
    assert_eq!(sends(&mut link), "CONNECT {}\r\nPING\r\n");
    assert_eq!(says(&mut link, "PONG\r\n"), Vec::<String>::new());
    assert_eq!(sends(&mut link), "SUB a 1\r\nPING\r\n");
    assert_eq!(says(&mut link, "PONG\r\nMSG a 1 1\r\n3\r\n"), ["1 opened", "1 a 3"]);
}

#[test]
fn a_server_that_refuses_the_login_is_no_loss() {
    let mut link = link(Instant::now());
    link.subscribe(&pattern("a"));
    open(&mut link, Instant::now());
    assert_eq!(says(&mut link, "-ERR 'Authorization Violation'\r\n"), Vec::<String>::new());
    let ended = link.ended().unwrap();
    assert!(ended.contains("Authorization Violation") && ended.contains("[nats]"), "{ended}");
}

#[test]
fn an_error_that_concerns_nobody_ends_the_link() {
    for error in ["Stale Connection", "Slow Consumer", "User Authentication Revoked"] {
        let mut link = up(Instant::now(), &[]);
        let heard = says(&mut link, &format!("-ERR '{error}'\r\n"));
        assert_eq!((heard, link.is_up()), (vec!["link lost".to_owned()], false), "{error}");
    }
    let mut link = up(Instant::now(), &[]);
    assert_eq!(says(&mut link, "what is this\r\nMSG a 1 1\r\n1\r\n"), ["link lost"]);
}

#[test]
fn it_answers_pings() {
    let mut link = up(Instant::now(), &[]);
    says(&mut link, "PING\r\nPING\r\n");
    assert_eq!(sends(&mut link), "PONG\r\nPONG\r\n");
}

#[test]
fn nat_05_a_silent_server_is_given_up_after_two_to_three_intervals() {
    let start = Instant::now();
    let mut link = up(start, &["a"]);
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    for tick in 1..=2 {
        let now = link.timeout().unwrap();
        assert_eq!(now, start + INTERVAL * tick);
        link.on_time(now);
        assert_eq!(sends(&mut link), "PING\r\n");
    }
    link.on_time(link.timeout().unwrap());
    assert_eq!(hears(&mut link), ["link lost"]);
    assert_eq!(link.ended().as_deref(), Some("it is silent"));
}

#[test]
fn nat_05_a_server_whose_answer_is_late_behind_much_else_is_not_given_up() {
    let mut link = up(Instant::now(), &["a"]);
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    for _ in 0..4 {
        link.on_time(link.timeout().unwrap());
        says(&mut link, "MSG a 1 1\r\n1\r\n");
    }
    assert!(link.is_up());
    assert_eq!(sends(&mut link), "PING\r\nPING\r\n", "and is not asked more and more");
    says(&mut link, "PONG\r\nPONG\r\n");
    link.on_time(link.timeout().unwrap());
    assert_eq!(sends(&mut link), "PING\r\n");
}

#[test]
fn a_server_that_sends_and_takes_nothing_is_given_up() {
    let start = Instant::now();
    let mut link = up(start, &["a"]);
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    let (mut now, mut answering) = (start, 0);
    while link.is_up() {
        answering += u32::from(link.is_answering());
        now = link.timeout().unwrap();
        link.on_time(now);
        says(&mut link, "MSG a 1 1\r\n1\r\n");
    }
    assert_eq!(answering, 2, "until the second question is there and the first is not answered");
    assert!(now - start == (STALLED + 1) * INTERVAL);
    assert_eq!(link.ended().as_deref(), Some("it does not take what it is sent"));
}

fn message<'m>(subject: &'m str, headers: &'m [(&'m str, &'m str)], data: &'m str) -> Outgoing<'m> {
    Outgoing { subject, reply: None, headers, data: data.as_bytes() }
}

fn confirmations(link: &mut Link) -> Vec<Confirmation> {
    std::iter::from_fn(|| link.confirmation()).collect()
}

#[test]
fn what_is_published_is_seen_when_the_ping_behind_it_is_answered() {
    let mut link = up(Instant::now(), &[]);
    assert_eq!(link.publish(&message("a", &[], "hi")).unwrap(), 1);
    let reply = Outgoing { reply: Some("_INBOX.x"), ..message("b", &[("Name", "value")], "") };
    assert_eq!(link.publish(&reply).unwrap(), 1);
    let headers = "NATS/1.0\r\nName: value\r\n\r\n";
    let size = headers.len();
    let expected = format!("PUB a 2\r\nhi\r\nHPUB b _INBOX.x {size} {size}\r\n{headers}\r\nPING\r\n");
    assert_eq!(sends(&mut link), expected);
    assert_eq!(link.publish(&message("c", &[], "")).unwrap(), 2);
    link.subscribe(&pattern("s"));
    assert_eq!(sends(&mut link), "PUB c 0\r\n\r\nSUB s 1\r\nPING\r\n");
    assert_eq!(confirmations(&mut link), []);
    says(&mut link, "PONG\r\n");
    assert_eq!(confirmations(&mut link), [Confirmation::Seen(1)]);
    says(&mut link, "-ERR 'Permissions Violation for Publish to \"c\"'\r\n");
    assert_eq!(says(&mut link, "PONG\r\n"), ["1 opened"], "a denied publication denies no subscription");
    assert_eq!(confirmations(&mut link), [Confirmation::Denied(Some("c".to_owned())), Confirmation::Seen(2)]);
}

#[test]
fn what_is_published_over_a_link_that_is_lost_is_never_seen() {
    let start = Instant::now();
    let mut link = up(start, &[]);
    assert_eq!(link.publish(&message("a", &[], "1")).unwrap(), 1);
    sends(&mut link);
    link.cut("test");
    assert!(matches!(link.publish(&message("a", &[], "2")), Err(NatsError::Away)));
    assert_eq!(hears(&mut link), ["link lost"]);
    open(&mut link, start);
    assert!(matches!(link.publish(&message("a", &[], "3")), Err(NatsError::Away)), "it only greets");
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    assert_eq!(link.publish(&message("a", &[], "4")).unwrap(), 2);
    sends(&mut link);
    says(&mut link, "PONG\r\n");
    assert_eq!(confirmations(&mut link), [Confirmation::Seen(2)]);
}

#[test]
fn what_the_server_would_not_take_is_not_sent() {
    let mut link = up(Instant::now(), &[]);
    let is_refused =
        |link: &mut Link, message: &Outgoing<'_>| matches!(link.publish(message), Err(NatsError::Refused(_)));
    for headers in [[("a", "b\r\nc: d")], [("a", "b\nc")], [("a b", "c")], [("a:b", "c")], [("", "c")]] {
        assert!(is_refused(&mut link, &message("a", &headers, "")), "{headers:?}");
    }
    let info = |max: usize| format!("INFO {{\"version\":\"2.15.1\",\"max_payload\":{max}}}\r\n");
    says(&mut link, &info(20));
    let long = "x".repeat(21);
    for message in [message("a", &[], &long), message("a", &[("a", "b")], "xxx")] {
        let refused = link.publish(&message);
        assert!(
            matches!(refused, Err(NatsError::TooLarge { size: 21, max: 20 })),
            "{refused:?}: headers count"
        );
    }
    assert_eq!(sends(&mut link), "");
    assert!(link.publish(&message("a", &[], &"x".repeat(20))).is_ok());
    says(&mut link, &info(30));
    assert!(link.publish(&message("a", &[], &"x".repeat(30))).is_ok(), "it takes more now");
}

#[test]
fn publications_to_a_server_that_takes_nothing_cost_bounded_memory() {
    let mut link = up(Instant::now(), &[]);
    let data = "x".repeat(1024 * 1024);
    let refused = (0..100).find_map(|_| link.publish(&message("a", &[], &data)).err());
    assert!(matches!(refused, Some(NatsError::Full)));
    assert!(link.outbound.len() < 20 * data.len());
    sends(&mut link);
    assert!(link.publish(&message("a", &[], &data)).is_ok());
}

#[test]
fn a_server_that_takes_nothing_costs_bounded_memory() {
    let mut link = up(Instant::now(), &[]);
    let long = pattern(&"a".repeat(10_000));
    for _ in 0..MAX_UNSENT / 10_000 + 1 {
        let key = link.subscribe(&long);
        link.unsubscribe(key);
    }
    assert!(link.unsent().is_empty());
    assert_eq!(hears(&mut link), ["link lost"]);
    assert_eq!(link.outbound.capacity(), 0);
}

#[test]
fn room_grows_with_a_large_message_and_is_given_back() {
    let mut link = up(Instant::now(), &["a"]);
    let payload = vec![b'x'; 3_000_000];
    let mut bytes = format!("MSG a 1 {}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(b"\r\nMSG a 1 1\r\n");
    let mut batch = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let room = link.room();
        let size = rest.len().min(room.capacity() - room.len());
        assert!(size >= READ / 8 || size == rest.len(), "{size}");
        assert!(room.capacity() <= 4 * (bytes.len() - rest.len()) + 2 * READ, "as bytes arrive");
        room.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        link.received();
        link.take(9, &mut batch);
    }
    assert!(
        matches!(&batch[..], [Incoming::Message(_, message)] if message.payload().len() == payload.len())
    );
    drop(batch);
    assert!(link.room().capacity() <= 4 * READ);
    assert_eq!(says(&mut link, "1\r\n"), ["1 a 1"]);
}

#[test]
fn the_read_buffer_is_used_again() {
    let mut link = up(Instant::now(), &["a"]);
    let mut places = BTreeSet::new();
    for _ in 0..1000 {
        let bytes = "MSG a 1 200\r\n".to_owned() + &"x".repeat(200) + "\r\n";
        let bytes = bytes.repeat(300) + "MSG a 1 2";
        for chunk in bytes.as_bytes().chunks(READ) {
            let room = link.room();
            assert!(room.capacity() - room.len() >= chunk.len().min(READ / 8));
            let size = chunk.len().min(room.capacity() - room.len());
            room.extend_from_slice(&chunk[..size]);
            room.extend_from_slice(&chunk[size..]);
            link.received();
            hears(&mut link);
        }
        says(&mut link, "\r\nhi\r\n");
        places.insert(link.room().as_ptr().addr() / (1024 * 1024));
    }
    assert!(places.len() < 20, "{} places in memory", places.len());
}
