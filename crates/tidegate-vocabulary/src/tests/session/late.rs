//! Late inputs: results for subscriptions and requests that no longer exist, and inputs after the session has closed.

use std::rc::Rc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use tidegate_protocol::class::Priority;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

use crate::tests::session::shell::Shell;
use crate::transcript::ShellInput;
use crate::transcript::shell::ShellOutput;

const HEAD: &str = "connect: a\nidentity a: subscribe a.>; publish a.>; request a.>";

fn publication(id: u32) -> Input {
    let frame = Frame::text(0, |out| out.extend_from_slice(b"{}"));
    let delivery = Rc::new(Delivery { frame, key: "a.b".into(), priority: Priority::Normal, expires: None });
    Input::Publication { subscription: SubscriptionId(id), delivery }
}

fn joined(id: u32) -> Input {
    Input::Joined {
        subscription: SubscriptionId(id),
        snapshot: Vec::new(),
        stale: Some(SystemTime::UNIX_EPOCH),
        position: None,
    }
}

fn unjoined(id: u32) -> Input {
    Input::JoinFailed { subscription: SubscriptionId(id), error: error() }
}

fn lost(id: u32) -> Input {
    Input::Lost { subscription: SubscriptionId(id), cause: GapCause::Nats, dropped: None, range: None }
}

fn stale(id: u32) -> Input {
    Input::Stale { subscription: SubscriptionId(id), since: SystemTime::UNIX_EPOCH }
}

fn published(request: u32) -> Input {
    Input::Published { request, result: Ok(()) }
}

fn replied(request: u32) -> Input {
    Input::Replied { request, result: Ok(Payload::classify(Bytes::from_static(b"1"))) }
}

fn error() -> ClientError {
    ClientError::new(ErrorCode::Unavailable, "try again")
}

fn check_silent(shell: &mut Shell, inputs: impl IntoIterator<Item = Input>) {
    for input in inputs {
        let text = format!("{input:?}");
        assert_eq!(shell.handle_input(input), ShellOutput::default(), "{text}");
    }
}

fn subscribed() -> Shell {
    let mut shell = Shell::of(HEAD);
    shell.send(r#"{"type":"subscribe","id":1,"channel":"a.b"}"#);
    shell
}

fn join(shell: &mut Shell) {
    shell
        .handle_shell_input(&ShellInput::Joined { channel: Pattern::parse("a.b").unwrap(), stale_for: None });
}

#[test]
fn inputs_after_unsubscribe_do_nothing() {
    for joins_first in [false, true] {
        let mut shell = subscribed();
        if joins_first {
            join(&mut shell);
        }
        shell.send(r#"{"type":"unsubscribe","id":2,"channel":"a.b"}"#);
        check_silent(
            &mut shell,
            [publication(0), lost(0), stale(0), joined(0), publication(0), unjoined(0), joined(0)],
        );
        let again = shell.send(r#"{"type":"subscribe","id":3,"channel":"a.b"}"#);
        assert_eq!(again.outputs, ["join a.b"]);
        check_silent(&mut shell, [joined(0), unjoined(0)]);
        assert_eq!(shell.subscriptions(), 1, "a result for the first subscription is none for the second");
    }
}

#[test]
fn inputs_before_joined_do_nothing() {
    let mut shell = subscribed();
    check_silent(&mut shell, [publication(0), lost(0), stale(0)]);
}

#[test]
fn a_subscription_is_joined_once() {
    let mut shell = subscribed();
    join(&mut shell);
    check_silent(&mut shell, [joined(0), publication(0), joined(0)]);
    let output = shell.handle_input(lost(0));
    assert_eq!(output.messages.len(), 1, "it is still live");
}

#[test]
fn inputs_with_unknown_ids_do_nothing() {
    let mut shell = subscribed();
    check_silent(
        &mut shell,
        [joined(7), unjoined(7), publication(7), lost(7), stale(7), published(7), replied(7)],
    );
}

#[test]
fn a_request_is_answered_once() {
    let mut shell = Shell::of(HEAD);
    shell.send(r#"{"type":"publish","id":1,"channel":"a.b","data":1}"#);
    shell.send(r#"{"type":"request","id":2,"channel":"a.b","data":1}"#);
    check_silent(&mut shell, [published(2), replied(2)]);
    assert_eq!(shell.handle_input(replied(1)).messages, [r#"{"type":"reply","id":2,"data":1}"#]);
    assert_eq!(shell.handle_input(published(0)).messages, [r#"{"type":"published","id":1}"#]);
    check_silent(&mut shell, [published(0), published(1), replied(1), replied(0)]);
}

fn close(disconnect: Disconnect) -> String {
    let (code, reason) = (disconnect.code(), disconnect.name());
    let retry = disconnect.retry_after().map(|retry| format!(r#","retry_after_ms":{}"#, retry.as_millis()));
    format!(r#"{{"type":"close","code":{code},"reason":"{reason}"{}}}"#, retry.unwrap_or_default())
}

#[test]
fn publishes_are_confirmed_before_close() {
    for disconnect in Disconnect::ALL {
        let mut shell = subscribed();
        join(&mut shell);
        shell.send(r#"{"type":"publish","id":2,"channel":"a.b","data":1}"#);
        shell.send(r#"{"type":"request","id":3,"channel":"a.b","data":1}"#);
        shell.send(r#"{"type":"publish","id":4,"channel":"a.b","data":1}"#);
        let output = shell.handle_input(Input::Disconnect(disconnect));
        assert_eq!((output.outputs, output.messages), (vec!["leave a.b".to_owned()], Vec::new()));
        check_silent(
            &mut shell,
            [publication(0), Input::Received(ClientMessage::Text("{".to_owned())), replied(1)],
        );
        assert_eq!(shell.handle_input(published(0)).messages, [r#"{"type":"published","id":2}"#]);
        let output = shell.handle_input(published(2));
        assert_eq!(output.messages, [r#"{"type":"published","id":4}"#.to_owned(), close(disconnect)]);
        assert_eq!(output.outputs, [format!("close {}", disconnect.code())]);
    }
    let mut shell = subscribed();
    shell.send(r#"{"type":"publish","id":1,"channel":"a.b","data":1}"#);
    shell.handle_input(Input::Disconnect(Disconnect::TokenExpired));
    assert_eq!(shell.elapse(Duration::from_millis(4_999)), ShellOutput::default());
    assert_eq!(shell.elapse(Duration::from_millis(1)).outputs, ["close 4001"], "NATS does not answer");
}

#[test]
fn nothing_is_sent_after_close() {
    let after = || {
        [
            Input::Received(ClientMessage::Text(r#"{"type":"ping"}"#.to_owned())),
            Input::Received(ClientMessage::Text("{".to_owned())),
            Input::Received(ClientMessage::Binary(Bytes::new())),
            Input::Alive,
            Input::Authenticated(Err(error())),
            joined(0),
            unjoined(0),
            publication(0),
            lost(0),
            stale(0),
            published(0),
            replied(0),
            Input::Disconnect(Disconnect::ProtocolError),
            Input::Drain { retry_after: Duration::ZERO },
            Input::ClockSet,
        ]
    };
    for joins_first in [false, true] {
        for disconnect in Disconnect::ALL {
            let mut shell = subscribed();
            if joins_first {
                join(&mut shell);
            }
            let output = shell.handle_input(Input::Disconnect(disconnect));
            assert_eq!(output.messages, [close(disconnect)]);
            assert_eq!(output.outputs, [format!("close {}", disconnect.code())]);
            check_silent(&mut shell, after());
            assert_eq!(shell.elapse(Duration::from_secs(1_000_000)), ShellOutput::default());
            assert_eq!(shell.session().poll_timeout(), None);
            assert_eq!(shell.session().user(), None);
        }
    }
}
