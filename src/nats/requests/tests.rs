//! Who hears what, without a server.

use std::time::Duration;

use bytes::BytesMut;

use super::*;
use crate::nats::info::Info;

/// A connection whose server has taken it and knows the inbox.
struct Bench {
    requests: Rc<Requests>,
}

impl Bench {
    fn new() -> Self {
        let config = Arc::new(NatsConfig::default());
        let bench = Self { requests: Rc::new(Requests::new(&config, "test").unwrap()) };
        bench.connect();
        bench
    }

    fn connect(&self) {
        let now = Instant::now();
        self.link(|link| link.open(Info::default(), b"CONNECT {}\r\n", BytesMut::new(), now));
        self.says("PONG\r\n");
        assert!(!self.requests.is_ready(), "the inbox is not there yet");
        self.sends();
        self.says("PONG\r\n");
        assert!(self.requests.is_ready());
    }

    fn link<T>(&self, act: impl FnOnce(&mut crate::nats::link::Link) -> T) -> T {
        act(&mut self.requests.state.borrow_mut().driver.link)
    }

    fn says(&self, bytes: &str) {
        self.link(|link| {
            link.room().extend_from_slice(bytes.as_bytes());
            link.received();
        });
        while self.link(|link| link.has_more()) {
            self.requests.turn(&mut Vec::new());
        }
    }

    fn sends(&self) -> String {
        self.link(|link| {
            let bytes = link.unsent().to_vec();
            link.sent(bytes.len());
            String::from_utf8(bytes).unwrap()
        })
    }

    fn publish(&self, subject: &str) -> oneshot::Receiver<Result<(), NatsError>> {
        self.requests.publish(&Outgoing { subject, reply: None, headers: &[], data: b"1" }).unwrap()
    }

    fn answers(&self, subject: &str, headers: &str, payload: &str) {
        let (head, all) = (headers.len(), headers.len() + payload.len());
        let sid = self.requests.state.borrow().inbox.key.0;
        self.says(&format!("HMSG {subject} {sid} {head} {all}\r\n{headers}{payload}\r\n"));
    }
}

/// Where the answer to the request that was sent last goes.
fn reply_of(sent: &str) -> String {
    let line = sent.lines().rfind(|line| line.starts_with("PUB ")).unwrap();
    line.split(' ').nth(2).unwrap().to_owned()
}

#[tokio::test]
async fn each_hears_what_has_become_of_its_own_when_the_server_has_read_it() {
    let bench = Bench::new();
    let (mut good, mut bad) = (bench.publish("a"), bench.publish("no"));
    let (_ticket, mut asked) = bench.requests.request("no", b"1").unwrap();
    bench.sends();
    let mut later = bench.publish("no");
    bench.sends();
    bench.says("-ERR 'Permissions Violation for Publish to \"no\"'\r\n");
    assert!(good.try_recv().is_err() && bad.try_recv().is_err());
    bench.says("PONG\r\n");
    assert!(good.try_recv().unwrap().is_ok());
    assert!(matches!(bad.try_recv().unwrap(), Err(NatsError::Denied)));
    assert!(matches!(asked.try_recv().unwrap(), Err(NatsError::Denied)), "at once");
    assert!(later.try_recv().is_err());
    bench.says("PONG\r\n");
    assert!(later.try_recv().unwrap().is_ok(), "a denial is of what came before it");
    assert!(bench.requests.state.borrow().unconfirmed.is_empty());
}

#[tokio::test]
async fn an_answer_goes_to_who_asked_and_a_late_or_foreign_one_to_nobody() {
    let bench = Bench::new();
    let (gone, _) = bench.requests.request("svc", b"1").unwrap();
    let late = reply_of(&bench.sends());
    drop(gone);
    let (_ticket, mut asked) = bench.requests.request("svc", b"2").unwrap();
    let reply = reply_of(&bench.sends());
    bench.says("PONG\r\nPONG\r\n");
    for foreign in [late.as_str(), "_INBOX_tidegate.x", "a", &format!("{reply}0"), &reply[..reply.len() - 1]]
    {
        bench.answers(foreign, "NATS/1.0\r\n\r\n", "stolen");
    }
    assert!(asked.try_recv().is_err());
    bench.answers(&reply, "what is this\r\n\r\n", "good");
    assert_eq!(asked.try_recv().unwrap().unwrap().payload(), "good");
    let (_ticket, mut nobody) = bench.requests.request("svc", b"3").unwrap();
    bench.answers(&reply_of(&bench.sends()), "NATS/1.0 503\r\n\r\n", "");
    assert!(matches!(nobody.try_recv().unwrap(), Err(NatsError::NoResponders)));
    assert!(bench.requests.state.borrow().asking.is_empty());
}

#[tokio::test]
async fn what_was_on_its_way_when_the_link_is_lost_has_no_known_outcome() {
    let bench = Bench::new();
    let mut published = bench.publish("a");
    let (_ticket, mut asked) = bench.requests.request("svc", b"1").unwrap();
    let (_other, answers) = bench.requests.survey("nodes", b"1").unwrap();
    bench.sends();
    bench.link(|link| link.cut("test"));
    bench.says("");
    assert!(matches!(published.try_recv().unwrap(), Err(NatsError::Lost)));
    assert!(matches!(asked.try_recv().unwrap(), Err(NatsError::Lost)));
    assert!(answers.next().await.is_none(), "nothing more comes");
    assert!(!bench.requests.is_ready());
    assert!(matches!(bench.requests.request("svc", b"1"), Err(NatsError::Away)));
    bench.connect();
    let mut again = bench.publish("a");
    bench.sends();
    bench.says("PONG\r\n");
    assert!(again.try_recv().unwrap().is_ok());
}

#[tokio::test]
async fn an_inbox_that_is_denied_is_asked_for_again_and_publishing_goes_on() {
    let bench = Bench::new();
    let pattern = bench.requests.state.borrow().inbox.pattern.clone();
    let sid = bench.requests.state.borrow().inbox.key.0;
    bench
        .says(&format!("-ERR 'Permissions Violation for Subscription to \"{pattern}\" (sid \"{sid}\")'\r\n"));
    assert!(!bench.requests.is_ready());
    assert!(matches!(bench.requests.request("svc", b"1"), Err(NatsError::Deaf)));
    let mut published = bench.publish("a");
    bench.sends();
    bench.says("PONG\r\n");
    assert!(published.try_recv().unwrap().is_ok());
    let later = Instant::now() + Duration::from_secs(60);
    bench.link(|link| link.on_time(later));
    assert!(bench.sends().contains(&format!("SUB {pattern} ")));
    bench.says("PONG\r\n");
    assert!(bench.requests.is_ready());
}
