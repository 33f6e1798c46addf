//! The workloads. Each measures one path of a publication through `src/lane` and `src/hub`, from the NATS message to
//! the frames that a socket would write.

use std::sync::Arc;
use std::time::Duration;

use tidegate::hub::class_counts::ClassCounts;
use tidegate::hub::outbox::limits::OutboxLimits;
use tidegate::nats::message::Message;
use tidegate::nats::read_only::Reader;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::class::fields::parse_key;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::native::Native;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::model::CompiledVocabulary;

use crate::callgrind::section;
use crate::node::Node;
use crate::node::NodeConfig;

/// One path of publications to clients.
pub(crate) struct Workload {
    /// The name in `docs/benchmarks/instructions.toml`.
    pub(crate) name: &'static str,
    /// Number of deliveries per publication.
    pub(crate) receivers: u64,
    /// Publications of the shorter run; the longer one has twice as many.
    pub(crate) length: u64,
    /// Sets the workload up. Returns a function that sends this many publications.
    pub(crate) set_up: fn() -> Box<dyn FnMut(u64)>,
}

impl Workload {
    /// Warms up, and then counts two runs, the second of which is twice as long.
    pub(crate) fn count(&self) {
        let mut run = (self.set_up)();
        run(self.length);
        for length in [self.length, 2 * self.length] {
            section(&mut || run(length));
        }
    }
}

pub(crate) const WORKLOADS: [Workload; 15] = [
    Workload { name: "fanout", receivers: 1000, length: 80, set_up: fanout },
    Workload { name: "burst", receivers: 200, length: 1280, set_up: burst },
    Workload { name: "deflated", receivers: 10, length: 200, set_up: deflated },
    Workload { name: "market", receivers: 10, length: 2000, set_up: market },
    Workload { name: "private", receivers: 1, length: 4000, set_up: private },
    Workload { name: "rate", receivers: 100, length: 600, set_up: rate },
    Workload { name: "slow", receivers: 100, length: 640, set_up: slow },
    Workload { name: "vocabulary", receivers: 100, length: 200, set_up: vocabulary },
    Workload { name: "fields", receivers: 100, length: 200, set_up: fields },
    Workload { name: "fields-native", receivers: 100, length: 200, set_up: fields_native },
    Workload { name: "keyed", receivers: 10, length: 2000, set_up: keyed },
    Workload { name: "unkeyed", receivers: 10, length: 2000, set_up: unkeyed },
    Workload { name: "collect", receivers: 100, length: 200, set_up: collect },
    Workload { name: "snapshot", receivers: 1, length: 400, set_up: snapshot },
    Workload { name: "read", receivers: 1, length: 4000, set_up: read },
];

pub(crate) const PAYLOAD: &[u8] =
    br#"{"symbol":"AAPL","bid":190.11,"ask":190.13,"volume":123456,"at":"2026-01-01T00:00:00.000Z"}"#;
/// A quote of a typical length: 150 bytes.
const QUOTE: &[u8] = br#"{"symbol":"AAPL","exchange":"XNAS","bid":190.11,"bid_size":300,"ask":190.13,"ask_size":500,"volume":123456,"currency":"USD","at":"2026-01-01T00:00:00Z"}"#;

fn class(pattern: &str, kind: Kind) -> Class {
    Class { kind, ..Class::plain(Pattern::parse(pattern).unwrap()) }
}

fn subscribe(node: &mut Node, client: usize, channel: &str) {
    node.receive(client, &format!(r#"{{"type":"subscribe","id":1,"channel":"{channel}"}}"#));
}

/// Discards the replies to the clients' first messages, so that the outboxes are empty.
fn clear_outboxes(node: &mut Node) {
    node.flush_shares();
    for client in &node.clients {
        let mut in_flight = Vec::new();
        while {
            client.subscriber.take(node.now, 63, 1 << 20, &mut in_flight, &mut ClassCounts::default());
            !in_flight.is_empty()
        } {
            in_flight.clear();
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

/// The same for ten clients with compression, one at a time.
fn deflated() -> Box<dyn FnMut(u64)> {
    one_subject(10, Encoding::deflated(15), 1)
}

fn one_subject(clients: usize, encoding: Encoding, at_a_time: u64) -> Box<dyn FnMut(u64)> {
    let mut node = Node::new(NodeConfig::default());
    for _ in 0..clients {
        let client = node.connect(Arc::new(Native), "u", encoding);
        subscribe(&mut node, client, "prices.AAPL");
    }
    clear_outboxes(&mut node);
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
    let mut node =
        Node::new(NodeConfig { classes: vec![latest], through_inbox: true, ..NodeConfig::default() });
    for number in 0..500 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        for subject in 0..20 {
            subscribe(&mut node, client, &format!("prices.S{}", (number * 20 + subject) % 1000));
        }
    }
    clear_outboxes(&mut node);
    let subjects = (0..1000).map(|number| {
        let subject = format!("prices.S{number}");
        (node.source(&subject), Message::plain(&subject, PAYLOAD))
    });
    let subjects: Vec<_> = subjects.collect();
    let mut next = 0;
    Box::new(move |publications| {
        for number in 1..=publications {
            let (source, message) = &subjects[next % subjects.len()];
            // 7 and 1000 are coprime: this visits all subjects, and never two neighbours in a row.
            next += 7;
            node.publish(*source, message);
            if number % 32 == 0 || number == publications {
                node.flush_shares();
                node.flush();
            }
        }
    })
}

/// One subject for many symbols, with ten clients and the last values. The key is a field of the payload.
fn keyed() -> Box<dyn FnMut(u64)> {
    room(PayloadFields::new(parse_key("data.symbol"), None))
}

/// The same without a key.
fn unkeyed() -> Box<dyn FnMut(u64)> {
    room(None)
}

fn room(fields: Option<Box<PayloadFields>>) -> Box<dyn FnMut(u64)> {
    let latest = Class { snapshot: true, fields, ..class("room.*", Kind::Latest) };
    let mut node = Node::new(NodeConfig { classes: vec![latest], ..NodeConfig::default() });
    for _ in 0..10 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, "room.market");
    }
    clear_outboxes(&mut node);
    let (source, message) = (node.source("room.market"), Message::plain("room.market", QUOTE));
    Box::new(move |publications| {
        for _ in 0..publications {
            node.publish(source, &message);
            node.flush_shares();
            node.flush();
        }
    })
}

/// A thousand users with a channel each, over one NATS subscription, with a header that clients receive.
fn private() -> Box<dyn FnMut(u64)> {
    let headers = vec!["Nats-Msg-Id".to_owned()];
    let private = Class { feed: FeedBy::Pattern, headers, ..class("user.*.notes", Kind::Buffer) };
    let mut node = Node::new(NodeConfig { classes: vec![private], ..NodeConfig::default() });
    for number in 0..1000 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, &format!("user.U{number}.notes"));
    }
    clear_outboxes(&mut node);
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

/// Fifty keys of one wildcard, published ten times as fast as `max_rate_ms` of the class permits.
fn rate() -> Box<dyn FnMut(u64)> {
    let slowed = Class { max_rate: Some(Duration::from_millis(500)), ..class("prices.*", Kind::Latest) };
    let mut node = Node::new(NodeConfig { classes: vec![slowed], ..NodeConfig::default() });
    for _ in 0..100 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, "prices.*");
    }
    clear_outboxes(&mut node);
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

/// Clients that read few of their frames. Newer values replace older ones in one class; in the other, the queue drops
/// its oldest frames and leaves a gap.
fn slow() -> Box<dyn FnMut(u64)> {
    let classes = vec![class("prices.*", Kind::Latest), class("orders.*", Kind::Buffer)];
    let outbox = OutboxLimits { bytes: 1 << 20, frames: 64 };
    let mut node = Node::new(NodeConfig { classes, outbox, ..NodeConfig::default() });
    for _ in 0..100 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, "prices.*");
        subscribe(&mut node, client, "orders.*");
    }
    clear_outboxes(&mut node);
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

/// Two vocabularies: one whose clients filter by a field, and one with a value of the client's own in each frame.
fn vocabulary() -> Box<dyn FnMut(u64)> {
    let files = [
        include_str!("../../vocabularies/hoardrun.toml"),
        include_str!("../../vocabularies/graphql-ws.toml"),
    ];
    let vocabularies: Vec<Arc<CompiledVocabulary>> =
        files.iter().map(|file| Arc::new(compile(file).unwrap().vocabulary)).collect();
    let mut node = Node::new(NodeConfig { vocabularies: vocabularies.clone(), ..NodeConfig::default() });
    let enter = |number: u16, path: &str| {
        let vocabulary = &vocabularies[usize::from(number) - 1];
        let binding = vocabulary.bind(VocabularyId(number), path, None, |_| None).unwrap();
        Arc::new(binding)
    };
    for number in 0..100 {
        let client = node.connect(enter(1, "/ws/notifications"), "alice", Encoding::JSON);
        let types = if number % 2 == 0 { r#"["order","alert"]"# } else { r#"["none"]"# };
        node.receive(client, &format!(r#"{{"type":"subscribe_notifications","types":{types}}}"#));
        let client = node.connect(enter(2, "/graphql"), "alice", Encoding::JSON);
        node.receive(client, r#"{"type":"connection_init"}"#);
        node.receive(client, &format!(r#"{{"type":"subscribe","id":"op-{number}","payload":{{"operationName":"Prices","variables":{{"symbol":"AAPL"}}}}}}"#));
    }
    clear_outboxes(&mut node);
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

/// A vocabulary that sends three fields of each payload.
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
    let vocabulary = Arc::new(compile(FILE).unwrap().vocabulary);
    let mut node =
        Node::new(NodeConfig { vocabularies: vec![Arc::clone(&vocabulary)], ..NodeConfig::default() });
    for _ in 0..100 {
        let binding = vocabulary.bind(VocabularyId(1), "/quotes", None, |_| None).unwrap();
        let client = node.connect(Arc::new(binding), "u", Encoding::JSON);
        node.receive(client, r#"{"op":"watch","symbol":"AAPL"}"#);
    }
    quotes(node)
}

/// A vocabulary whose clients get the current signals of their ten symbols in each message, of which one has changed.
fn collect() -> Box<dyn FnMut(u64)> {
    const FILE: &str = r#"
        name = "signals"
        [[path]]
        name = "signals"
        path = "/signals"
        [[receive]]
        when = { op = "watch" }
        do = "subscribe"
        each = "{msg.symbols}"
        channels = ["signals.{item}", "signals.all"]
        [[deliver]]
        pattern = "signals.*"
        each = "{data}"
        channel = "signals.{data.symbol}"
        collect = { by = "{data.symbol}" }
        send = { op = "signals", data = "{list}", time = "{time}" }
    "#;
    let vocabulary = Arc::new(compile(FILE).unwrap().vocabulary);
    let mut node =
        Node::new(NodeConfig { vocabularies: vec![Arc::clone(&vocabulary)], ..NodeConfig::default() });
    for _ in 0..100 {
        let binding = vocabulary.bind(VocabularyId(1), "/signals", None, |_| None).unwrap();
        let client = node.connect(Arc::new(binding), "u", Encoding::JSON);
        node.receive(
            client,
            r#"{"op":"watch","symbols":["S0","S1","S2","S3","S4","S5","S6","S7","S8","S9"]}"#,
        );
    }
    clear_outboxes(&mut node);
    let signal = |number| {
        format!(
            r#"{{"symbol":"S{number}","side":"buy","confidence":0.87,"price":190.11,"reasons":["momentum","volume"]}}"#
        )
    };
    let sources: Vec<_> = (0..10)
        .map(|number| {
            let subject = format!("signals.S{number}");
            (node.source(&subject), Message::plain(&subject, signal(number).as_bytes()))
        })
        .collect();
    let mut next = 0;
    Box::new(move |publications| {
        for _ in 0..publications {
            let (source, message) = &sources[next % sources.len()];
            next += 7;
            node.publish(*source, message);
            node.flush_shares();
            node.flush();
        }
    })
}

/// The same clients in the native protocol.
fn fields_native() -> Box<dyn FnMut(u64)> {
    let mut node = Node::new(NodeConfig::default());
    for _ in 0..100 {
        let client = node.connect(Arc::new(Native), "u", Encoding::JSON);
        subscribe(&mut node, client, "prices.AAPL");
    }
    quotes(node)
}

/// Publishes quotes, one at a time.
fn quotes(mut node: Node) -> Box<dyn FnMut(u64)> {
    clear_outboxes(&mut node);
    let (source, message) = (node.source("prices.AAPL"), Message::plain("prices.AAPL", QUOTE));
    Box::new(move |publications| {
        for _ in 0..publications {
            node.publish(source, &message);
            node.flush_shares();
            node.flush();
        }
    })
}

/// A subscription that ends and starts again, instead of a publication: one of sixteen channels, with a snapshot of
/// twenty values.
fn snapshot() -> Box<dyn FnMut(u64)> {
    let latest = Class { snapshot: true, ..class("prices.>", Kind::Latest) };
    let mut node = Node::new(NodeConfig { classes: vec![latest], ..NodeConfig::default() });
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
    clear_outboxes(&mut node);
    let leaves = |channel| format!(r#"{{"type":"unsubscribe","id":2,"channel":"prices.C{channel}.*"}}"#);
    let leaves: Vec<_> = (0..16).map(leaves).collect();
    let mut next = 0;
    Box::new(move |publications| {
        for _ in 0..publications {
            node.receive(1, &leaves[next]);
            subscribe(&mut node, 1, &format!("prices.C{next}.*"));
            next = (next + 7) % 16;
            clear_outboxes(&mut node);
        }
    })
}

/// What nats-server sends for one publication, read from the connection.
fn read() -> Box<dyn FnMut(u64)> {
    let line = format!("MSG prices.AAPL 12 {}\r\n", PAYLOAD.len());
    let bytes = [line.as_bytes(), PAYLOAD, b"\r\n"].concat();
    let mut reader = Reader::default();
    Box::new(move |publications| {
        let mut read = 0;
        for _ in 0..publications {
            reader.read(&bytes, |subject, payload| read += subject.len().min(payload.len()));
        }
        assert_eq!(read as u64, publications * "prices.AAPL".len() as u64);
    })
}
