//! A producer that publishes numbered messages constantly, through outages too.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::nats_server::NatsServer;
use crate::support::within;

/// How fast a producer is.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Consecutive messages of one subject.
    pub(crate) burst: u64,
    /// The pause after a burst on each subject.
    pub(crate) rest: Duration,
}

const BURSTS: Pace = Pace { burst: 10, rest: Duration::from_millis(20) };

/// Publishes `{"n": 1}`, `{"n": 2}` … to each of its subjects, until it is stopped.
pub(crate) struct Producer {
    stop: CancellationToken,
    numbers: watch::Receiver<u64>,
    task: JoinSet<()>,
}

impl Producer {
    /// Starts to publish.
    pub(crate) async fn start(nats: &NatsServer, subjects: Vec<String>) -> Self {
        Self::at(BURSTS, nats, subjects).await
    }

    /// The same, at this pace.
    pub(crate) async fn at(pace: Pace, nats: &NatsServer, subjects: Vec<String>) -> Self {
        let stop = CancellationToken::new();
        let (published, numbers) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(produce(nats.client().await, pace, subjects, published, stop.clone()));
        Self { stop, numbers, task }
    }

    /// The newest number that was published on all subjects.
    pub(crate) fn number(&self) -> u64 {
        *self.numbers.borrow()
    }

    /// Stops it once the server has all messages. Returns the last number of each subject.
    pub(crate) async fn stop(mut self) -> u64 {
        self.stop.cancel();
        within("the producer's end", self.task.join_next()).await.unwrap().unwrap();
        self.number()
    }
}

async fn produce(
    client: async_nats::Client,
    pace: Pace,
    subjects: Vec<String>,
    published: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let mut number = 0;
    while !stop.is_cancelled() {
        for subject in &subjects {
            for number in number + 1..=number + pace.burst {
                let payload = format!("{{\"n\":{number}}}");
                client.publish(subject.clone(), payload.into()).await.unwrap();
            }
        }
        number += pace.burst;
        published.send_replace(number);
        tokio::time::sleep(pace.rest).await;
    }
    client.flush().await.unwrap();
}
