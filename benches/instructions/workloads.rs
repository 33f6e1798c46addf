//! The workloads: what a publication costs from the message of NATS to the frames in the hands of the socket, in each of
//! the ways that `src/lane` and `src/hub` have for it.

use std::sync::Arc;
use std::time::Duration;

use tidegate::hub::outbox::limits::OutboxLimits;
use tidegate::nats::message::Message;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::Kind;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::native::Native;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::model::CompiledVocabulary;

use crate::callgrind::section;
use crate::node::Node;
use crate::node::Plan;

/// One way in which publications reach clients.
pub(crate) struct Workload {
    /// Its name in the file of figures.
    pub(crate) name: &'static str,
    /// Who receives each publication.
    pub(crate) receivers: u64,
    /// Publications of the shorter run; the longer one has twice as many.
    pub(crate) length: u64,
    /// Sets it up, and gives what publishes so many.
    pub(crate) begin: fn() -> Box<dyn FnMut(u64)>,
}

impl Workload {
    /// Runs it twice after a first time that counts for nothing, once twice as long.
    pub(crate) fn count(&self) {
        let mut run = (self.begin)();
        run(self.length);
        for length in [self.length, 2 * self.length] {
            section(&mut || run(length));
        }
    }
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 11] = [
    Workload { name: "fanout", receivers: 1000, length: 80, begin: fanout },
    Workload { name: "burst", receivers: 200, length: 1280, begin: burst },
    Workload { name: "deflated", receivers: 10, length: 200, begin: deflated },
    Workload { name: "market", receivers: 10, length: 2000, begin: market },
    Workload { name: "private", receivers: 1, length: 4000, begin: private },
    Workload { name: "rate", receivers: 100, length: 600, begin: rate },
    Workload { name: "slow", receivers: 100, length: 640, begin: slow },
    Workload { name: "vocabulary", receivers: 100, length: 200, begin: vocabulary },
    Workload { name: "fields", receivers: 100, length: 200, begin: fields },
    Workload { name: "fields-native", receivers: 100, length: 200, begin: fields_native },
    Workload { name: "snapshot", receivers: 1, length: 400, begin: snapshot },
];

const PAYLOAD: &[u8] =
    br#"{"symbol":"AAPL","bid":190.11,"ask":190.13,"volume":123456,"at":"2026-01-01T00:00:00.000Z"}"#;
/// A quote of the usual length: 150 bytes.
const QUOTE: &[u8] = br#"{"symbol":"AAPL","exchange":"XNAS","bid":190.11,"bid_size":300,"ask":190.13,"ask_size":500,"volume":123456,"currency":"USD","at":"2026-01-01T00:00:00Z"}"#;

fn class(pattern: &str, kind: Kind) -> Class {
    Class { kind, ..Class::plain(Pattern::parse(pattern).unwrap()) }
}

fn subscribe(node: &mut Node, client: usize, channel: &str) {
    node.say(client, &format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}"}}"#));
}

/// What was said before the first publication is out of the way.
fn settle(node: &mut Node) {
    node.flush_shares();
    for client in &node.clients {
        let mut taken = Vec::new();
        while {
            client.subscriber.take(node.now, 63, 1 << 20, &mut taken);
            !taken.is_empty()
        } {
            taken.clear();
        }
        client.subscriber.free_capacity();
    }
}

/// One subject, a thousand clients, one publication at a time.
fn fanout() -> Box<dyn FnMut(u64)> {
    one_subject(1000, Encoding::JSON, 1)
}

/// The same for 200 clients, in bursts of 64.
fn burst() -> Box<dyn FnMut(u64)> {
    one_subject(200, Encoding::JSON, 64)
}

/// The same for ten clients that inflate, one at a time.
fn deflated() -> Box<dyn FnMut(u64)> {
    one_subject(10, Encoding::deflated(15), 1)
}

fn one_subject(clients: usize, encoding: Encoding, at_a_time: u64) -> Box<dyn FnMut(u64)> {
    let mut node = Node::new(Plan::default());
    for _ in 0..clients {
        let client = node.connect(Arc::new(Native), "u", encoding);
        subscribe(&mut node, client, "prices.AAPL");
    }
    settle(&mut node);
    let (source, message) = (node.source("prices.AAPL"), Message::plain("prices.AAPL", PAYLOAD));
    Box::new(move |publications| {
        for number in 1..=publications {
            node.publish(source, &message);
            if number % at_a_time == 0 {
                node.flush_shares();
                node.flush();
            }
        }
    })
}

/// A thousand subjects with ten clients each, last values kept, from the lane of another thread, 32 at a time.
fn market() -> Box<dyn FnMut(u64)> {
    let latest = Class { snapshot: true, ..class("prices.>", Kind::Latest) };
    let mut node = Node::new(Plan { classes: vec![latest], is_far: true, ..Plan::default() });
    for number in 0..500 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        for subject in 0..20 {
            subscribe(&mut node, client, &format!("prices.S{}", (number * 20 + subject) % 1000));
        }
    }
    settle(&mut node);
    let subjects = (0..1000).map(|number| {
        let subject = format!("prices.S{number}");
        (node.source(&subject), Message::plain(&subject, PAYLOAD))
    });
    let subjects: Vec<_> = subjects.collect();
    let mut next = 0;
    Box::new(move |publications| {
        for number in 1..=publications {
            let (source, message) = &subjects[next % subjects.len()];
            // 7 and 1000 have no divisor in common: all have their turn, no two neighbours one after the other.
            next += 7;
            node.publish(*source, message);
            if number % 32 == 0 || number == publications {
                node.flush_shares();
                node.flush();
            }
        }
    })
}

/// A thousand users with a channel of their own, all of it over one NATS subscription, with a header that they see.
fn private() -> Box<dyn FnMut(u64)> {
    let headers = vec!["Nats-Msg-Id".to_owned()];
    let private = Class { feed: FeedBy::Pattern, headers, ..class("user.*.notes", Kind::Buffer) };
    let mut node = Node::new(Plan { classes: vec![private], ..Plan::default() });
    for number in 0..1000 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, &format!("user.U{number}.notes"));
    }
    settle(&mut node);
    let source = node.source("user.*.notes");
    let headers =
        b"NATS/1.0\r\nNats-Msg-Id: 0123456789\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c\r\n\r\n";
    let message = |number| Message::with_headers(&format!("user.U{number}.notes"), headers, PAYLOAD);
    let messages: Vec<_> = (0..1000).map(message).collect();
    let mut next = 0;
    Box::new(move |publications| {
        for _ in 0..publications {
            node.publish(source, &messages[next % messages.len()]);
            next += 7;
            node.flush_shares();
            node.flush();
        }
    })
}

/// Fifty keys of one wildcard, ten times as fast as the class lets them through.
fn rate() -> Box<dyn FnMut(u64)> {
    let slowed = Class { max_rate: Some(Duration::from_millis(500)), ..class("prices.*", Kind::Latest) };
    let mut node = Node::new(Plan { classes: vec![slowed], ..Plan::default() });
    for _ in 0..100 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, "prices.*");
    }
    settle(&mut node);
    let source = node.source("prices.*");
    let messages: Vec<_> =
        (0..50).map(|number| Message::plain(&format!("prices.S{number}"), PAYLOAD)).collect();
    let mut next = 0;
    Box::new(move |publications| {
        for _ in 0..publications {
            node.now += Duration::from_millis(1);
            node.release();
            node.publish(source, &messages[next % messages.len()]);
            next += 7;
            node.flush_shares();
            node.flush();
        }
    })
}

/// Clients that take a few frames and leave the rest: newer values take the place of older ones, and of a queue the oldest
/// go and leave a gap.
fn slow() -> Box<dyn FnMut(u64)> {
    let classes = vec![class("prices.*", Kind::Latest), class("orders.*", Kind::Buffer)];
    let outbox = OutboxLimits { bytes: 1 << 20, frames: 64 };
    let mut node = Node::new(Plan { classes, outbox, ..Plan::default() });
    for _ in 0..100 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, "prices.*");
        subscribe(&mut node, client, "orders.*");
    }
    settle(&mut node);
    let (prices, orders) = (node.source("prices.*"), node.source("orders.*"));
    let of = |number| Message::plain(&format!("prices.S{number}"), PAYLOAD);
    let messages: Vec<_> = (0..50).map(of).collect();
    let order = Message::plain("orders.1", PAYLOAD);
    let mut next = 0;
    Box::new(move |publications| {
        for number in 1..=publications {
            if number % 4 == 0 {
                node.publish(orders, &order);
            } else {
                node.publish(prices, &messages[next % messages.len()]);
                next += 7;
            }
            node.flush_shares();
            if number % 16 == 0 {
                node.flush_slowly(4);
            }
        }
    })
}

/// Two described vocabularies: one whose clients choose by a field, one that puts each client's own value into the frame.
fn vocabulary() -> Box<dyn FnMut(u64)> {
    let files = [
        include_str!("../../vocabularies/hoardrun.toml"),
        include_str!("../../vocabularies/graphql-ws.toml"),
    ];
    let vocabularies: Vec<Arc<CompiledVocabulary>> =
        files.iter().map(|file| Arc::new(compile(file).unwrap().described)).collect();
    let mut node = Node::new(Plan { vocabularies: vocabularies.clone(), ..Plan::default() });
    let enter = |number: u16, path: &str| {
        let described = &vocabularies[usize::from(number) - 1];
        let binding = described.bind(VocabularyId(number), path, None, |_| None).unwrap();
        Arc::new(binding)
    };
    for number in 0..100 {
        let client = node.connect(enter(1, "/ws/notifications"), "alice", Encoding::JSON);
        let types = if number % 2 == 0 { r#"["order","alert"]"# } else { r#"["none"]"# };
        node.say(client, &format!(r#"{{"type":"subscribe_notifications","types":{types}}}"#));
        let client = node.connect(enter(2, "/graphql"), "alice", Encoding::JSON);
        node.say(client, r#"{"type":"connection_init"}"#);
        node.say(client, &format!(r#"{{"type":"subscribe","id":"op-{number}","payload":{{"operationName":"Prices","variables":{{"symbol":"AAPL"}}}}}}"#));
    }
    settle(&mut node);
    let notes = node.source("user.alice.notifications");
    let note =
        Message::plain("user.alice.notifications", br#"{"text":"filled","type":"alert","order":{"id":7}}"#);
    let (prices, price) = (node.source("prices.AAPL"), Message::plain("prices.AAPL", PAYLOAD));
    Box::new(move |publications| {
        for number in 0..publications {
            if number % 2 == 0 {
                node.publish(notes, &note);
            } else {
                node.publish(prices, &price);
            }
            node.flush_shares();
            node.flush();
        }
    })
}

/// A described vocabulary that shows three fields of each payload.
fn fields() -> Box<dyn FnMut(u64)> {
    const FILE: &str = r#"
        name = "quotes"
        [[path]]
        name = "quotes"
        path = "/quotes"
        [[receive]]
        when = { op = "watch" }
        do = "subscribe"
        channel = "prices.{msg.symbol}"
        [[deliver]]
        pattern = "prices.*"
        send = { op = "quote", symbol = "{data.symbol}", bid = "{data.bid}", ask = "{data.ask}" }
    "#;
    let described = Arc::new(compile(FILE).unwrap().described);
    let mut node = Node::new(Plan { vocabularies: vec![Arc::clone(&described)], ..Plan::default() });
    for _ in 0..100 {
        let binding = described.bind(VocabularyId(1), "/quotes", None, |_| None).unwrap();
        let client = node.connect(Arc::new(binding), "u", Encoding::JSON);
        node.say(client, r#"{"op":"watch","symbol":"AAPL"}"#);
    }
    quotes(node)
}

/// The same clients in the native protocol.
fn fields_native() -> Box<dyn FnMut(u64)> {
    let mut node = Node::new(Plan::default());
    for _ in 0..100 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, "prices.AAPL");
    }
    quotes(node)
}

/// Publishes quotes, one at a time.
fn quotes(mut node: Node) -> Box<dyn FnMut(u64)> {
    settle(&mut node);
    let (source, message) = (node.source("prices.AAPL"), Message::plain("prices.AAPL", QUOTE));
    Box::new(move |publications| {
        for _ in 0..publications {
            node.publish(source, &message);
            node.flush_shares();
            node.flush();
        }
    })
}

/// Not a publication but a subscription that comes and goes, with a snapshot of twenty values: one of sixteen channels.
fn snapshot() -> Box<dyn FnMut(u64)> {
    let latest = Class { snapshot: true, ..class("prices.>", Kind::Latest) };
    let mut node = Node::new(Plan { classes: vec![latest], ..Plan::default() });
    for _ in 0..2 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        for channel in 0..16 {
            subscribe(&mut node, client, &format!("prices.C{channel}.*"));
        }
    }
    for channel in 0..16 {
        let source = node.source(&format!("prices.C{channel}.*"));
        for number in 0..20 {
            node.publish(source, &Message::plain(&format!("prices.C{channel}.S{number}"), PAYLOAD));
        }
    }
    settle(&mut node);
    let leaves = |channel| format!(r#"{{"type":"unsubscribe","id":2,"channel":"prices.C{channel}.*"}}"#);
    let leaves: Vec<_> = (0..16).map(leaves).collect();
    let mut next = 0;
    Box::new(move |publications| {
        for _ in 0..publications {
            node.say(1, &leaves[next]);
            subscribe(&mut node, 1, &format!("prices.C{next}.*"));
            next = (next + 7) % 16;
            settle(&mut node);
        }
    })
}
