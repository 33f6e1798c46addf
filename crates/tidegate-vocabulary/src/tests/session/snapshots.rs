//! Last values: in the reply of the native protocol, and as publications behind the confirmation of a vocabulary. And what
//! a client that comes back has missed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::Priority;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::native::Native;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::position::Position;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::InputReadiness;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::session::recovery::Recovery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::compile::compile;
use crate::transcript::Transcript;

const VOCABULARY: &str = r#"
name = "rooms"

[[path]]
name = "rooms"
path = "/rooms"

[[receive]]
when = { op = "join", room = true }
do = "subscribe"
channel = "room.{msg.room}"
keep = { room = "{msg.room}" }
confirm = { joined = "{msg.room}" }

[[deliver]]
pattern = "room.*"
send = { room = "{sub.room}", data = "{data}" }

[stale]
send = { stale = "{sub.room}" }
"#;

const ID: SubscriptionId = SubscriptionId(0);

/// Returns the outputs of a session of alice, in words, and clears them.
fn outputs(session: &mut Session) -> Vec<String> {
    let words = |output: Output| match &output {
        Output::Send { frame, priority } => {
            format!("send {priority:?} {}", String::from_utf8_lossy(frame.message()))
        }
        Output::DeliverSnapshot { subscription, snapshot } => {
            assert_eq!(*subscription, ID);
            format!("snapshot {}", snapshot.iter().map(|value| &*value.key).collect::<String>())
        }
        Output::Deliver { delivery, .. } => format!("deliver {}", delivery.key),
        Output::Join { .. } => "join".to_owned(),
        Output::GoLive { .. } => "live".to_owned(),
        Output::Recover { after, .. } => format!("recover after {} of {}", after.seq, after.epoch.0),
        Output::Leave { .. } => "leave".to_owned(),
        Output::Ping
        | Output::Authenticate { .. }
        | Output::TrustIdentity { .. }
        | Output::Filter { .. }
        | Output::Release { .. }
        | Output::Denied(_)
        | Output::Refused(_)
        | Output::Publish { .. }
        | Output::Request { .. }
        | Output::Query { .. }
        | Output::Close { .. } => panic!("{output:?}"),
    };
    std::iter::from_fn(|| session.poll_output()).map(words).collect()
}

fn delivery(key: &str) -> Delivery {
    let frame = Frame::text(0, |out| out.extend_from_slice(br#"{"of":"a.b"}"#));
    Delivery { frame, key: key.into(), priority: Priority::Low, expires: None }
}

/// A session whose subscription to this channel waits for its lane.
fn joining(dialect: Arc<dyn Dialect>, join: &str, is_held: bool) -> (Session, Now) {
    let head = "# Head\nidentity alice: subscribe room.>\nclass room.>: latest; snapshot; priority low";
    let transcript = Transcript::parse(head).unwrap();
    let mut settings = transcript.settings.clone();
    settings.hold = is_held;
    let identity = Arc::new(transcript.persona("alice").unwrap().identity.clone());
    let now = Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    let verified = Some(Verified { identity, expires: None });
    let mut session = Session::new("s1".into(), dialect, Arc::new(settings), verified, now);
    outputs(&mut session);
    session.handle_input(Input::Received(ClientMessage::Text(join.to_owned())), now);
    assert_eq!(outputs(&mut session), ["join"]);
    (session, now)
}

fn join(session: &mut Session, keys: &[&str], now: Now) -> Vec<String> {
    let snapshot = keys.iter().map(|key| delivery(key)).collect();
    let stale = Some(SystemTime::UNIX_EPOCH);
    session.handle_input(Input::Joined { subscription: ID, snapshot, stale, position: None }, now);
    outputs(session)
}

fn rooms() -> Arc<dyn Dialect> {
    let vocabulary = Arc::new(compile(VOCABULARY).unwrap().vocabulary);
    let binding = vocabulary.bind(VocabularyId(1), "/rooms", None, |_| None);
    Arc::new(binding.unwrap_or_else(|_| panic!("the path is bound")))
}

#[test]
fn last_values_are_publications_between_the_confirmation_and_what_comes_live() {
    let (confirmation, stale) = (r#"send Low {"joined":"x"}"#, r#"send Low {"stale":"x"}"#);
    for is_held in [false, true] {
        let (mut session, now) = joining(rooms(), r#"{"op":"join","room":"x"}"#, is_held);
        let joined = join(&mut session, &["a", "b"], now);
        assert_eq!(joined[..3], [confirmation, "snapshot ab", stale]);
        session.handle_input(Input::Publication { subscription: ID, delivery: Rc::new(delivery("c")) }, now);
        let (live, publications) = (joined[3..].to_vec(), outputs(&mut session));
        if is_held {
            assert_eq!((live, publications), (vec![], vec!["deliver c".to_owned()]));
        } else {
            assert_eq!((live, publications), (vec!["live".to_owned()], vec![]));
        }
    }
    let (mut session, now) = joining(rooms(), r#"{"op":"join","room":"x"}"#, false);
    assert_eq!(join(&mut session, &[], now), [confirmation, stale, "live"]);
}

#[test]
fn the_native_reply_contains_them() {
    let subscribe = r#"{"type":"subscribe","id":1,"channel":"room.x"}"#;
    let (mut session, now) = joining(Arc::new(Native), subscribe, false);
    let joined = join(&mut session, &["a", "b"], now);
    let reply =
        r#"send Low {"type":"subscribed","id":1,"channel":"room.x","snapshot":[{"of":"a.b"},{"of":"a.b"}]}"#;
    assert_eq!((&*joined[0], joined.len(), &*joined[2]), (reply, 3, "live"));
}

#[test]
fn last_values_that_are_read_for_a_client_count_as_commands_even_if_it_has_left() {
    let subscribe = r#"{"type":"subscribe","id":1,"channel":"room.x"}"#;
    let rate = Rate { per_second: 50, burst: 200 };
    for has_left in [false, true] {
        let (mut session, now) = joining(Arc::new(Native), subscribe, false);
        if has_left {
            let unsubscribe = r#"{"type":"unsubscribe","channel":"room.x"}"#;
            session.handle_input(Input::Received(ClientMessage::Text(unsubscribe.to_owned())), now);
        }
        session.take_work();
        for (values, work) in [(63, 0), (64, 1), (9900, 154)] {
            session.handle_input(Input::SnapshotRead { values }, now);
            assert_eq!(session.take_work(), work);
        }
        assert_eq!(session.readiness(now.instant), InputReadiness::Now);
        session.handle_input(Input::SnapshotRead { values: 64 * rate.burst as usize }, now);
        let InputReadiness::At(ready) = session.readiness(now.instant) else { panic!("its commands wait") };
        assert!(ready > now.instant + Duration::from_secs(3), "that is the time for 150 commands");
    }
}

const BACK: &str = r#"{"type":"subscribe","id":1,"channel":"room.x","since":{"epoch":"e1","seq":7}}"#;

fn at(epoch: &str, seq: u64) -> Option<Position> {
    Some(Position { epoch: Epoch(epoch.into()), seq })
}

/// The outputs when a client that was at 7 of `e1` comes back, and its channel is at this position.
fn back(position: Option<Position>, is_held: bool) -> (Session, Now, Vec<String>) {
    let (mut session, now) = joining(Arc::new(Native), BACK, is_held);
    let joined = Input::Joined { subscription: ID, snapshot: vec![delivery("a")], stale: None, position };
    session.handle_input(joined, now);
    let outputs = outputs(&mut session);
    (session, now, outputs)
}

fn subscribed(members: &str) -> String {
    format!(r#"send Low {{"type":"subscribed","id":1,"channel":"room.x",{members}}}"#)
}

#[test]
fn a_client_that_comes_back_to_another_stream_or_to_none_is_told_at_once() {
    let values = r#""recovered":false,"snapshot":[{"of":"a.b"}]"#;
    let other = back(at("e2", 9), false).2;
    let gap = r#"send Low {"type":"gap","channel":"room.x","cause":"epoch"}"#;
    assert_eq!(other, [&subscribed(&format!(r#""epoch":"e2","seq":9,{values}"#)), gap, "live"]);
    assert_eq!(back(None, false).2, [&subscribed(values), "live"]);
    for is_held in [false, true] {
        let (mut session, now, asked) = back(at("e1", 7), is_held);
        assert_eq!(asked, ["recover after 7 of e1"]);
        let recovery = Box::new(Recovery { position: at("e1", 7), ..Recovery::default() });
        session.handle_input(Input::Recovered { subscription: ID, recovery }, now);
        let confirmed = subscribed(r#""epoch":"e1","seq":7,"recovered":true,"snapshot":[]"#);
        let live = if is_held { vec![] } else { vec!["live".to_owned()] };
        assert_eq!(outputs(&mut session), [vec![confirmed], live].concat());
    }
}

#[test]
fn what_a_client_has_missed_comes_between_the_confirmation_and_what_comes_live() {
    let (mut session, now, asked) = back(at("e1", 9), false);
    assert_eq!(asked, ["recover after 7 of e1"]);
    // Until then, publications and losses are in what it gets.
    let publication = Rc::new(delivery("early"));
    session.handle_input(Input::Publication { subscription: ID, delivery: publication }, now);
    let lost = Input::Lost { subscription: ID, cause: GapCause::Nats, dropped: None, range: None };
    session.handle_input(lost, now);
    assert_eq!(outputs(&mut session), [] as [String; 0]);
    let messages = ["b", "c"].map(delivery).into_iter().collect();
    let stale = Some(SystemTime::UNIX_EPOCH);
    let recovery = Box::new(Recovery { messages, stale, position: at("e1", 11), ..Recovery::default() });
    session.handle_input(Input::Recovered { subscription: ID, recovery: recovery.clone() }, now);
    let confirmed = subscribed(r#""epoch":"e1","seq":11,"recovered":true,"snapshot":[]"#);
    let stale = r#"send Low {"type":"stale","channel":"room.x","since":"1970-01-01T00:00:00.000Z"}"#;
    assert_eq!(outputs(&mut session), [&confirmed, "deliver b", "deliver c", stale, "live"]);
    // A second answer has no effect.
    session.handle_input(Input::Recovered { subscription: ID, recovery }, now);
    assert_eq!(outputs(&mut session), [] as [String; 0]);
}

#[test]
fn what_is_missing_before_the_messages_is_a_gap() {
    let (mut session, now, _) = back(at("e1", 9), false);
    let missing = vec![(GapCause::Discarded, Some(SequenceRange { from: 8, to: 9 }))];
    let messages = [delivery("b")].into_iter().collect();
    let recovery = Box::new(Recovery { messages, missing, position: at("e1", 10), ..Recovery::default() });
    session.handle_input(Input::Recovered { subscription: ID, recovery }, now);
    let confirmed = subscribed(r#""epoch":"e1","seq":10,"recovered":false,"snapshot":[]"#);
    let gap = r#"send Low {"type":"gap","channel":"room.x","cause":"discarded","from":8,"to":9}"#;
    assert_eq!(outputs(&mut session), [&confirmed, gap, "deliver b", "live"]);
}

#[test]
fn a_client_that_leaves_while_it_recovers_gets_nothing() {
    let (mut session, now, _) = back(at("e1", 9), false);
    let unsubscribe = r#"{"type":"unsubscribe","channel":"room.x"}"#;
    session.handle_input(Input::Received(ClientMessage::Text(unsubscribe.to_owned())), now);
    assert_eq!(outputs(&mut session)[0], "leave");
    let messages = [delivery("b")].into_iter().collect();
    let recovery = Box::new(Recovery { messages, ..Recovery::default() });
    session.handle_input(Input::Recovered { subscription: ID, recovery }, now);
    assert_eq!(outputs(&mut session), [] as [String; 0]);
}
