//! Replies and confirmations, without a server.

use std::time::Duration;

use bytes::BytesMut;

use super::*;
use crate::nats::info::ServerInfo;

/// A connection on which the server has accepted the login and the reply inbox.
struct TestRequests {
    requests: Rc<Requests>,
}

impl TestRequests {
    fn new() -> Self {
        let config = Arc::new(NatsConfig::default());
        let test = Self { requests: Rc::new(Requests::new(&config, "test").unwrap()) };
        test.connect();
        test
    }

    fn connect(&self) {
        let now = Instant::now();
        self.link(|link| link.open(ServerInfo::default(), b"CONNECT {}\r\n", BytesMut::new(), now));
        self.receive("PONG\r\n");
        assert!(!self.requests.is_ready(), "the inbox is not there yet");
        self.take_sent();
        self.receive("PONG\r\n");
        assert!(self.requests.is_ready());
    }

    fn link<T>(&self, act: impl FnOnce(&mut crate::nats::link::Link) -> T) -> T {
        act(&mut self.requests.state.borrow_mut().driver.link)
    }

    fn receive(&self, bytes: &str) {
        self.link(|link| {
            link.read_buffer().extend_from_slice(bytes.as_bytes());
            link.received();
        });
        while self.link(|link| link.has_more()) {
            self.requests.process(&mut Vec::new());
        }
    }

    fn take_sent(&self) -> String {
        self.link(|link| {
            let bytes = link.unsent().to_vec();
            link.sent(bytes.len());
            String::from_utf8(bytes).unwrap()
        })
    }

    fn publish(&self, subject: &str) -> oneshot::Receiver<Result<(), NatsError>> {
        self.requests.publish(&OutgoingMessage::plain(subject, b"1")).unwrap()
    }

    fn receive_reply(&self, subject: &str, headers: &str, payload: &str) {
        let (head, all) = (headers.len(), headers.len() + payload.len());
        let sid = self.requests.state.borrow().inbox.key.0;
        self.receive(&format!("HMSG {subject} {sid} {head} {all}\r\n{headers}{payload}\r\n"));
    }
}

/// The reply subject of the last request that was sent.
fn reply_of(sent: &str) -> String {
    let line = sent.lines().rfind(|line| line.starts_with("PUB ")).unwrap();
    line.split(' ').nth(2).unwrap().to_owned()
}

#[tokio::test]
async fn each_publish_gets_its_own_outcome_with_the_pong() {
    let test = TestRequests::new();
    let (mut good, mut bad) = (test.publish("a"), test.publish("no"));
    let (_guard, mut pending) = test.requests.request(&OutgoingMessage::plain("no", b"1")).unwrap();
    test.take_sent();
    let mut later = test.publish("no");
    test.take_sent();
    test.receive("-ERR 'Permissions Violation for Publish to \"no\"'\r\n");
    assert!(good.try_recv().is_err() && bad.try_recv().is_err());
    test.receive("PONG\r\n");
    assert!(good.try_recv().unwrap().is_ok());
    assert!(matches!(bad.try_recv().unwrap(), Err(NatsError::Denied)));
    assert!(matches!(pending.try_recv().unwrap(), Err(NatsError::Denied)), "at once");
    assert!(later.try_recv().is_err());
    test.receive("PONG\r\n");
    assert!(later.try_recv().unwrap().is_ok(), "a denial is of what came before it");
    assert!(test.requests.state.borrow().unconfirmed.is_empty());
}

#[tokio::test]
async fn a_reply_reaches_its_request_and_late_or_foreign_ones_are_dropped() {
    let test = TestRequests::new();
    let (gone, _) = test.requests.request(&OutgoingMessage::plain("svc", b"1")).unwrap();
    let late = reply_of(&test.take_sent());
    drop(gone);
    let (_guard, mut pending) = test.requests.request(&OutgoingMessage::plain("svc", b"2")).unwrap();
    let reply = reply_of(&test.take_sent());
    test.receive("PONG\r\nPONG\r\n");
    for foreign in [late.as_str(), "_INBOX_tidegate.x", "a", &format!("{reply}0"), &reply[..reply.len() - 1]]
    {
        test.receive_reply(foreign, "NATS/1.0\r\n\r\n", "stolen");
    }
    assert!(pending.try_recv().is_err());
    test.receive_reply(&reply, "what is this\r\n\r\n", "good");
    assert_eq!(pending.try_recv().unwrap().unwrap().payload(), "good");
    let (_guard, mut unserved) = test.requests.request(&OutgoingMessage::plain("svc", b"3")).unwrap();
    test.receive_reply(&reply_of(&test.take_sent()), "NATS/1.0 503\r\n\r\n", "");
    assert!(matches!(unserved.try_recv().unwrap(), Err(NatsError::NoResponders)));
    assert!(test.requests.state.borrow().pending_replies.is_empty());
}

#[tokio::test]
async fn messages_in_flight_when_the_link_is_lost_have_an_unknown_outcome() {
    let test = TestRequests::new();
    let mut published = test.publish("a");
    let (_guard, mut pending) = test.requests.request(&OutgoingMessage::plain("svc", b"1")).unwrap();
    let (_other, answers) = test.requests.scatter_gather("nodes", b"1").unwrap();
    test.take_sent();
    test.link(|link| link.disconnect("test"));
    test.receive("");
    assert!(matches!(published.try_recv().unwrap(), Err(NatsError::ConnectionLost)));
    assert!(matches!(pending.try_recv().unwrap(), Err(NatsError::ConnectionLost)));
    assert!(answers.next().await.is_none(), "nothing more comes");
    assert!(!test.requests.is_ready());
    assert!(matches!(
        test.requests.request(&OutgoingMessage::plain("svc", b"1")),
        Err(NatsError::Disconnected)
    ));
    test.connect();
    let mut again = test.publish("a");
    test.take_sent();
    test.receive("PONG\r\n");
    assert!(again.try_recv().unwrap().is_ok());
}

#[tokio::test]
async fn a_denied_inbox_is_retried_and_publishing_continues() {
    let test = TestRequests::new();
    let pattern = test.requests.state.borrow().inbox.pattern.clone();
    let sid = test.requests.state.borrow().inbox.key.0;
    test.receive(&format!(
        "-ERR 'Permissions Violation for Subscription to \"{pattern}\" (sid \"{sid}\")'\r\n"
    ));
    assert!(!test.requests.is_ready());
    assert!(matches!(test.requests.request(&OutgoingMessage::plain("svc", b"1")), Err(NatsError::NoInbox)));
    let mut published = test.publish("a");
    test.take_sent();
    test.receive("PONG\r\n");
    assert!(published.try_recv().unwrap().is_ok());
    let later = Instant::now() + Duration::from_secs(60);
    test.link(|link| link.on_timeout(later));
    assert!(test.take_sent().contains(&format!("SUB {pattern} ")));
    test.receive("PONG\r\n");
    assert!(test.requests.is_ready());
}
