//! Single cases of a link.

mod model;

use std::collections::BTreeSet;

use super::*;
use crate::nats::error::NatsError;
use crate::nats::outgoing::OutgoingMessage;

const INTERVAL: Duration = Duration::from_secs(5);
/// A subject that the server of these tests denies.
const DENIED: &str = "no.way";

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn link(now: Instant) -> Link {
    Link::new(INTERVAL, now)
}

fn open(link: &mut Link, now: Instant) {
    link.open(ServerInfo::default(), b"CONNECT {}\r\n", BytesMut::new(), now);
}

/// Takes everything that the link wants to send.
fn take_sent(link: &mut Link) -> String {
    let text = String::from_utf8(link.unsent().to_vec()).unwrap();
    link.sent(text.len());
    text
}

fn receive(link: &mut Link, bytes: &str) -> Vec<String> {
    link.read_buffer().extend_from_slice(bytes.as_bytes());
    link.received();
    take_all(link)
}

fn take_all(link: &mut Link) -> Vec<String> {
    let mut events = Vec::new();
    while link.has_more() {
        let mut batch = Vec::new();
        link.take(3, &mut batch);
        events.extend(batch.iter().map(describe));
    }
    events
}

fn describe(incoming: &Incoming) -> String {
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
    assert_eq!(take_sent(&mut link), "CONNECT {}\r\nPING\r\n");
    assert_eq!(receive(&mut link, "PONG\r\n"), Vec::<String>::new());
    assert!(link.is_up());
    link
}

/// Sorts the lines, because a hash table has no order.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn early_subscriptions_open_with_one_ping_after_connecting() {
    let mut link = up(Instant::now(), &["a", "b.>"]);
    assert_eq!(lines(&take_sent(&mut link)), ["PING", "SUB a 1", "SUB b.> 2"]);
    let mut opened = receive(&mut link, "MSG a 1 2\r\nhi\r\nPONG\r\n");
    assert_eq!(opened.remove(0), "1 a hi", "messages may come first");
    opened.sort();
    assert_eq!(opened, ["1 opened", "2 opened"]);
}

#[test]
fn a_subscription_opens_with_the_pong_behind_it_and_not_with_one_before() {
    let mut link = up(Instant::now(), &[]);
    link.subscribe(&pattern("a"));
    assert_eq!(take_sent(&mut link), "SUB a 1\r\nPING\r\n");
    link.subscribe(&pattern("b"));
    link.subscribe(&pattern("c"));
    assert_eq!(receive(&mut link, "PONG\r\n"), ["1 opened"]);
    assert_eq!(take_sent(&mut link), "SUB b 2\r\nSUB c 3\r\nPING\r\n");
    link.unsubscribe(SubscriptionKey(2));
    assert_eq!(take_sent(&mut link), "UNSUB 2\r\n");
    assert_eq!(receive(&mut link, "MSG b 2 1\r\nx\r\nPONG\r\n"), ["2 b x", "3 opened"], "in transit already");
}

#[test]
fn a_denied_subscription_fails_and_others_open() {
    let mut link = up(Instant::now(), &["a", DENIED]);
    take_sent(&mut link);
    let denial = format!("-ERR 'Permissions Violation for Subscription to \"{DENIED}\"'\r\n");
    assert_eq!(receive(&mut link, &format!("{denial}PONG\r\n")), ["2 denied", "1 opened"]);
    link.unsubscribe(SubscriptionKey(2));
    assert_eq!(take_sent(&mut link), "UNSUB 2\r\n", "in case the server disagrees");
}

#[test]
fn many_denials_are_matched_quickly() {
    let subjects: Vec<_> = (0..20_000).map(|number| format!("s{number}")).collect();
    let patterns: Vec<_> = subjects.iter().map(String::as_str).collect();
    let mut link = up(Instant::now(), &patterns);
    let sent = take_sent(&mut link);
    let subjects_sent = sent.lines().filter_map(|line| line.strip_prefix("SUB ")?.split(' ').next());
    let denials = subjects_sent
        .map(|subject| format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n"));
    let denials = denials.collect::<String>() + "PONG\r\n";
    let received: Vec<_> = denials
        .as_bytes()
        .chunks(1000)
        .flat_map(|chunk| {
            link.read_buffer().extend_from_slice(chunk);
            link.received();
            take_all(&mut link)
        })
        .collect();
    assert_eq!(received.len(), subjects.len());
    assert!(received.iter().all(|event| event.ends_with("denied")));
}

#[test]
fn an_unnamed_rejection_fails_all_unconfirmed_subscriptions() {
    let mut link = up(Instant::now(), &["a"]);
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    link.subscribe(&pattern("b"));
    link.subscribe(&pattern("c"));
    take_sent(&mut link);
    let received = receive(&mut link, "-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n");
    assert_eq!(received, ["2 failed", "3 failed"]);
    assert!(link.is_up());
}

#[test]
fn a_revoked_subscription_is_retried() {
    let start = Instant::now();
    let mut link = up(start, &["a", "b"]);
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    let revoked = "-ERR 'Permissions Violation for Subscription to \"a\" (sid \"1\")'\r\n";
    assert_eq!(receive(&mut link, revoked), ["1 interrupted"]);
    let later = link.next_timeout().unwrap() + INTERVAL + RETRY_AFTER;
    link.on_timeout(later);
    assert_eq!(lines(&take_sent(&mut link)), ["PING", "SUB a 1"]);
    let denied = "-ERR 'Permissions Violation for Subscription to \"a\"'\r\n";
    assert_eq!(receive(&mut link, &format!("{denied}PONG\r\n")), Vec::<String>::new());
    link.on_timeout(later + RETRY_AFTER);
    take_sent(&mut link);
    assert_eq!(receive(&mut link, "PONG\r\n"), ["1 opened"]);
    link.on_timeout(later + RETRY_AFTER + RETRY_AFTER);
    assert!(!take_sent(&mut link).contains("SUB"));
}

#[test]
fn messages_before_a_lost_link_are_delivered_before_it() {
    let start = Instant::now();
    let mut link = up(start, &["a"]);
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    link.read_buffer().extend_from_slice(b"MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\nMSG a 1 1\r");
    link.received();
    link.disconnect("test");
    assert!(link.unsent().is_empty() && link.is_up());
    assert_eq!(take_all(&mut link), ["1 a 1", "1 a 2", "link lost"]);
    assert_eq!(
        (link.take_end_reason().as_deref(), link.take_end_reason(), link.is_up()),
        (Some("test"), None, false)
    );
    open(&mut link, start);
    assert_eq!(take_sent(&mut link), "CONNECT {}\r\nPING\r\n");
    assert_eq!(receive(&mut link, "PONG\r\n"), Vec::<String>::new());
    assert_eq!(take_sent(&mut link), "SUB a 1\r\nPING\r\n");
    assert_eq!(receive(&mut link, "PONG\r\nMSG a 1 1\r\n3\r\n"), ["1 opened", "1 a 3"]);
}

#[test]
fn a_rejected_login_is_not_a_lost_link() {
    let mut link = link(Instant::now());
    link.subscribe(&pattern("a"));
    open(&mut link, Instant::now());
    assert_eq!(receive(&mut link, "-ERR 'Authorization Violation'\r\n"), Vec::<String>::new());
    let ended = link.take_end_reason().unwrap();
    assert!(ended.contains("Authorization Violation") && ended.contains("[nats]"), "{ended}");
}

#[test]
fn a_fatal_error_ends_the_link() {
    for error in ["Stale Connection", "Slow Consumer", "User Authentication Revoked"] {
        let mut link = up(Instant::now(), &[]);
        let received = receive(&mut link, &format!("-ERR '{error}'\r\n"));
        assert_eq!((received, link.is_up()), (vec!["link lost".to_owned()], false), "{error}");
    }
    let mut link = up(Instant::now(), &[]);
    assert_eq!(receive(&mut link, "what is this\r\nMSG a 1 1\r\n1\r\n"), ["link lost"]);
}

#[test]
fn it_answers_pings() {
    let mut link = up(Instant::now(), &[]);
    receive(&mut link, "PING\r\nPING\r\n");
    assert_eq!(take_sent(&mut link), "PONG\r\nPONG\r\n");
}

#[test]
fn nat_05_a_silent_server_is_given_up_after_two_to_three_intervals() {
    let start = Instant::now();
    let mut link = up(start, &["a"]);
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    for tick in 1..=2 {
        let now = link.next_timeout().unwrap();
        assert_eq!(now, start + INTERVAL * tick);
        link.on_timeout(now);
        assert_eq!(take_sent(&mut link), "PING\r\n");
    }
    link.on_timeout(link.next_timeout().unwrap());
    assert_eq!(take_all(&mut link), ["link lost"]);
    assert_eq!(link.take_end_reason().as_deref(), Some("the server sent nothing and answered no PING"));
}

#[test]
fn nat_05_a_pong_queued_behind_other_data_does_not_end_the_link() {
    let mut link = up(Instant::now(), &["a"]);
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    for _ in 0..4 {
        link.on_timeout(link.next_timeout().unwrap());
        receive(&mut link, "MSG a 1 1\r\n1\r\n");
    }
    assert!(link.is_up());
    assert_eq!(take_sent(&mut link), "PING\r\nPING\r\n", "no further PINGs");
    receive(&mut link, "PONG\r\nPONG\r\n");
    link.on_timeout(link.next_timeout().unwrap());
    assert_eq!(take_sent(&mut link), "PING\r\n");
}

#[test]
fn a_server_that_sends_but_does_not_read_is_disconnected() {
    let start = Instant::now();
    let mut link = up(start, &["a"]);
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    let (mut now, mut answered) = (start, 0);
    while link.is_up() {
        answered += u32::from(link.is_answering());
        now = link.next_timeout().unwrap();
        link.on_timeout(now);
        receive(&mut link, "MSG a 1 1\r\n1\r\n");
    }
    assert_eq!(answered, 2, "until two PINGs are unanswered");
    assert!(now - start == (STALLED_INTERVALS + 1) * INTERVAL);
    assert_eq!(link.take_end_reason().as_deref(), Some("the server does not read what it is sent"));
}

fn message<'m>(subject: &'m str, headers: &'m [(&'m str, &'m str)], data: &'m str) -> OutgoingMessage<'m> {
    OutgoingMessage { subject, reply: None, headers, data: data.as_bytes() }
}

fn confirmations(link: &mut Link) -> Vec<Confirmation> {
    std::iter::from_fn(|| link.confirmation()).collect()
}

#[test]
fn a_publish_is_confirmed_by_the_next_pong() {
    let mut link = up(Instant::now(), &[]);
    assert_eq!(link.publish(&message("a", &[], "hi")).unwrap(), 1);
    let reply = OutgoingMessage { reply: Some("_INBOX.x"), ..message("b", &[("Name", "value")], "") };
    assert_eq!(link.publish(&reply).unwrap(), 1);
    let headers = "NATS/1.0\r\nName: value\r\n\r\n";
    let size = headers.len();
    let expected = format!("PUB a 2\r\nhi\r\nHPUB b _INBOX.x {size} {size}\r\n{headers}\r\nPING\r\n");
    assert_eq!(take_sent(&mut link), expected);
    assert_eq!(link.publish(&message("c", &[], "")).unwrap(), 2);
    link.subscribe(&pattern("s"));
    assert_eq!(take_sent(&mut link), "PUB c 0\r\n\r\nSUB s 1\r\nPING\r\n");
    assert_eq!(confirmations(&mut link), []);
    receive(&mut link, "PONG\r\n");
    assert_eq!(confirmations(&mut link), [Confirmation::Confirmed(1)]);
    receive(&mut link, "-ERR 'Permissions Violation for Publish to \"c\"'\r\n");
    assert_eq!(receive(&mut link, "PONG\r\n"), ["1 opened"], "a denied publication denies no subscription");
    assert_eq!(
        confirmations(&mut link),
        [Confirmation::Denied(Some("c".to_owned())), Confirmation::Confirmed(2)]
    );
}

#[test]
fn a_publish_over_a_lost_link_is_never_confirmed() {
    let start = Instant::now();
    let mut link = up(start, &[]);
    assert_eq!(link.publish(&message("a", &[], "1")).unwrap(), 1);
    take_sent(&mut link);
    link.disconnect("test");
    assert!(matches!(link.publish(&message("a", &[], "2")), Err(NatsError::Disconnected)));
    assert_eq!(take_all(&mut link), ["link lost"]);
    open(&mut link, start);
    assert!(
        matches!(link.publish(&message("a", &[], "3")), Err(NatsError::Disconnected)),
        "still connecting"
    );
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    assert_eq!(link.publish(&message("a", &[], "4")).unwrap(), 2);
    take_sent(&mut link);
    receive(&mut link, "PONG\r\n");
    assert_eq!(confirmations(&mut link), [Confirmation::Confirmed(2)]);
}

#[test]
fn invalid_and_too_large_messages_are_not_sent() {
    let mut link = up(Instant::now(), &[]);
    let is_refused = |link: &mut Link, message: &OutgoingMessage<'_>| {
        matches!(link.publish(message), Err(NatsError::Refused(_)))
    };
    for headers in [[("a", "b\r\nc: d")], [("a", "b\nc")], [("a b", "c")], [("a:b", "c")], [("", "c")]] {
        assert!(is_refused(&mut link, &message("a", &headers, "")), "{headers:?}");
    }
    let info = |max: usize| format!("INFO {{\"version\":\"2.15.1\",\"max_payload\":{max}}}\r\n");
    receive(&mut link, &info(20));
    let long = "x".repeat(21);
    for message in [message("a", &[], &long), message("a", &[("a", "b")], "xxx")] {
        let refused = link.publish(&message);
        assert!(
            matches!(refused, Err(NatsError::TooLarge { size: 21, max: 20 })),
            "{refused:?}: headers count"
        );
    }
    assert_eq!(take_sent(&mut link), "");
    assert!(link.publish(&message("a", &[], &"x".repeat(20))).is_ok());
    receive(&mut link, &info(30));
    assert!(link.publish(&message("a", &[], &"x".repeat(30))).is_ok(), "the limit is larger now");
}

#[test]
fn publishes_to_a_server_that_does_not_read_use_bounded_memory() {
    let mut link = up(Instant::now(), &[]);
    let data = "x".repeat(1024 * 1024);
    let refused = (0..100).find_map(|_| link.publish(&message("a", &[], &data)).err());
    assert!(matches!(refused, Some(NatsError::Overloaded)));
    assert!(link.outbound.len() < 20 * data.len());
    take_sent(&mut link);
    assert!(link.publish(&message("a", &[], &data)).is_ok());
}

#[test]
fn a_server_that_does_not_read_costs_bounded_memory() {
    let mut link = up(Instant::now(), &[]);
    let long = pattern(&"a".repeat(10_000));
    for _ in 0..MAX_UNSENT / 10_000 + 1 {
        let key = link.subscribe(&long);
        link.unsubscribe(key);
    }
    assert!(link.unsent().is_empty());
    assert_eq!(take_all(&mut link), ["link lost"]);
    assert_eq!(link.outbound.capacity(), 0);
}

#[test]
fn the_read_buffer_grows_for_a_large_message_and_shrinks_again() {
    let mut link = up(Instant::now(), &["a"]);
    let payload = vec![b'x'; 3_000_000];
    let mut bytes = format!("MSG a 1 {}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(b"\r\nMSG a 1 1\r\n");
    let mut batch = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let room = link.read_buffer();
        let size = rest.len().min(room.capacity() - room.len());
        assert!(size >= READ_BYTES / 8 || size == rest.len(), "{size}");
        assert!(room.capacity() <= 4 * (bytes.len() - rest.len()) + 2 * READ_BYTES, "as bytes arrive");
        room.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        link.received();
        link.take(9, &mut batch);
    }
    assert!(
        matches!(&batch[..], [Incoming::Message(_, message)] if message.payload().len() == payload.len())
    );
    drop(batch);
    assert!(link.read_buffer().capacity() <= 4 * READ_BYTES);
    assert_eq!(receive(&mut link, "1\r\n"), ["1 a 1"]);
}

#[test]
fn the_read_buffer_is_used_again() {
    let mut link = up(Instant::now(), &["a"]);
    let mut places = BTreeSet::new();
    for _ in 0..1000 {
        let bytes = "MSG a 1 200\r\n".to_owned() + &"x".repeat(200) + "\r\n";
        let bytes = bytes.repeat(300) + "MSG a 1 2";
        for chunk in bytes.as_bytes().chunks(READ_BYTES) {
            let room = link.read_buffer();
            assert!(room.capacity() - room.len() >= chunk.len().min(READ_BYTES / 8));
            let size = chunk.len().min(room.capacity() - room.len());
            room.extend_from_slice(&chunk[..size]);
            room.extend_from_slice(&chunk[size..]);
            link.received();
            take_all(&mut link);
        }
        receive(&mut link, "\r\nhi\r\n");
        places.insert(link.read_buffer().as_ptr().addr() / (1024 * 1024));
    }
    assert!(places.len() < 20, "{} places in memory", places.len());
}
