//! `NatsStub`: answers the connections of a node as nats-server does. Its threads are not counted.

use std::collections::HashMap;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::mpsc;

const INFO: &[u8] = b"INFO {\"version\":\"2.15.1\",\"headers\":true,\"max_payload\":1048576}\r\n";

/// A server that knows who has subscribed, and delivers only what [`NatsStub::publish`] sends.
pub(crate) struct NatsStub {
    pub(crate) url: String,
    subscribed: mpsc::Receiver<(String, StubSubscription)>,
    by_subject: HashMap<String, StubSubscription>,
}

/// The connection that has subscribed to a subject, and its number for the subscription.
struct StubSubscription {
    connection: TcpStream,
    number: String,
}

impl NatsStub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (sender, subscribed) = mpsc::channel();
        in_background(move || {
            for connection in listener.incoming() {
                let (connection, sender) = (connection.unwrap(), sender.clone());
                // The node closes its connections in the end.
                in_background(move || drop(serve(&connection, &sender)));
            }
        });
        Self { url, subscribed, by_subject: HashMap::new() }
    }

    /// Sends a message to the connection that has subscribed to this subject.
    pub(crate) fn publish(&mut self, subject: &str, payload: &[u8]) {
        while let Ok((subject, subscription)) = self.subscribed.try_recv() {
            self.by_subject.insert(subject, subscription);
        }
        let StubSubscription { connection, number } = &self.by_subject[subject];
        let line = format!("MSG {subject} {number} {}\r\n", payload.len());
        let bytes = [line.as_bytes(), payload, b"\r\n"].concat();
        (&*connection).write_all(&bytes).unwrap();
    }
}

fn in_background(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().spawn(work).unwrap();
}

fn serve(connection: &TcpStream, subscribed: &mpsc::Sender<(String, StubSubscription)>) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut writer = connection;
    writer.write_all(INFO)?;
    for line in BufReader::new(connection).lines() {
        let line = line?;
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["PING"] => writer.write_all(b"PONG\r\n")?,
            ["SUB", subject, .., number] => {
                let subscription =
                    StubSubscription { connection: connection.try_clone()?, number: number.to_owned() };
                let _ = subscribed.send((subject.to_owned(), subscription));
            }
            _ => {}
        }
    }
    Ok(())
}
