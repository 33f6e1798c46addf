//! A service on NATS that decides for nodes: it answers with what a test says, and counts its questions.

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::nats_server::NatsServer;

/// The service, and all questions that it has had.
pub(crate) struct Decider {
    questions: watch::Receiver<Vec<Value>>,
    _task: JoinSet<()>,
}

impl Decider {
    /// Answers each question on `subject` as `answer` says; `None` leaves it without an answer.
    pub(crate) async fn start(
        nats: &NatsServer,
        subject: &str,
        answer: impl Fn(&Value) -> Option<Value> + Send + 'static,
    ) -> Self {
        Self::start_raw(nats, subject, move |question| Some(answer(question)?.to_string().into())).await
    }

    /// The same with answers of any bytes.
    pub(crate) async fn start_raw(
        nats: &NatsServer,
        subject: &str,
        answer: impl Fn(&Value) -> Option<Bytes> + Send + 'static,
    ) -> Self {
        let client = nats.decider().await;
        let mut requests = client.subscribe(subject.to_owned()).await.unwrap();
        nats.until_subscribed("decider", subject).await;
        let ((asked, questions), mut task) = (watch::channel(Vec::new()), JoinSet::new());
        task.spawn(async move {
            while let Some(request) = requests.next().await {
                let question = serde_json::from_slice(&request.payload).unwrap();
                let answer = answer(&question);
                asked.send_modify(|all| all.push(question));
                if let Some((answer, reply)) = answer.zip(request.reply) {
                    client.publish(reply, answer).await.unwrap();
                }
            }
        });
        Self { questions, _task: task }
    }

    /// All questions so far.
    pub(crate) fn questions(&self) -> Vec<Value> {
        self.questions.borrow().clone()
    }
}
