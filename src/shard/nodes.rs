//! Nodes: what the nodes on one NATS ask each other, so that it does not matter which of them is called.
//!
//! One subject carries the questions. A node answers what another asks; it does not check again what the caller may see,
//! as the one who was called has done: NATS has to keep all but nodes from the subject.

mod question;
mod values;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tracing::debug;
use tracing::warn;

use crate::connection::context::Context;
use crate::nats::survey::Enquiry;
use crate::protocol::vocabulary::Vocabularies;
use crate::protocol::vocabulary::statistics::Statistics;
use crate::shard::errand::Errand;
use crate::shard::handle::Shards;
use crate::shard::nodes::question::Question;
pub use crate::shard::nodes::values::last;

/// Where nodes ask.
const SUBJECT: &str = "tidegate.nodes";
/// Calls that may wait for what all nodes know.
const CALLS: usize = 1024;

/// The way to what all nodes know together.
#[derive(Clone, Debug)]
pub struct Nodes {
    calls: mpsc::Sender<Call>,
}

/// A call for statistics: of which vocabulary, and whether with names.
#[derive(Debug)]
struct Call {
    of: (u16, bool),
    answer: oneshot::Sender<Statistics>,
}

/// What asks and answers for a node, on one of its shards.
pub struct NodesWork {
    calls: mpsc::Receiver<Call>,
    here: Here,
}

/// This node.
struct Here {
    id: Box<str>,
    shards: Shards,
    vocabularies: Vocabularies,
}

impl Nodes {
    /// The way, and the work behind it. `id` is no other node's.
    pub fn new(id: &str, shards: Shards, vocabularies: Vocabularies) -> (Self, NodesWork) {
        let (way, calls) = mpsc::channel(CALLS);
        (Self { calls: way }, NodesWork { calls, here: Here { id: id.into(), shards, vocabularies } })
    }

    /// Statistics of a vocabulary on all nodes that answer. `None` if this one has too much to do.
    pub async fn statistics(&self, vocabulary: u16, with_names: bool) -> Option<Statistics> {
        let (answer, statistics) = oneshot::channel();
        self.calls.try_send(Call { of: (vocabulary, with_names), answer }).ok()?;
        statistics.await.ok()
    }
}

impl NodesWork {
    /// Asks and answers until the connection to NATS ends. Where no vocabulary needs it, NATS is not used.
    pub async fn run(self, context: Rc<Context>) {
        let here = &self.here;
        if here.vocabularies.iter().any(|(_, described)| described.needs_other_nodes()) {
            join(serve(&context, here, self.calls), answer(&context, here)).await;
        }
    }
}

/// Asks in rounds: however many call, a node asks the others one question of a kind at a time, and whoever calls hears
/// what was asked after it called.
async fn serve(context: &Context, here: &Here, mut calls: mpsc::Receiver<Call>) {
    let mut waiting = Vec::new();
    while calls.recv_many(&mut waiting, CALLS).await > 0 {
        let mut rounds: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Call { of, answer } in waiting.drain(..) {
            rounds.entry(of).or_default().push(answer);
        }
        join_all(rounds.into_iter().map(|(of, answers)| async move {
            let Some(statistics) = here.of_all_nodes(context, of).await else { return };
            for answer in answers {
                // Who has given up is not there to hear it.
                let _ = answer.send(statistics.clone());
            }
        }))
        .await;
    }
}

async fn answer(context: &Context, here: &Here) {
    let mut questions = match context.nats.respondent(SUBJECT).await {
        Ok(questions) => questions,
        Err(error) => return warn!(%error, "cannot listen to other nodes"),
    };
    while let Some(enquiry) = questions.next().await {
        match Question::decode(&enquiry.data) {
            Some(Question::Values { channels }) => values::answer(context, &enquiry, &channels).await,
            Some(Question::Statistics { from, vocabulary, name, with_names }) => {
                let described = here.vocabularies.get(vocabulary);
                if from != here.id && described.is_some_and(|described| described.name == name) {
                    here.answer(&enquiry, vocabulary, with_names).await;
                }
            }
            None => debug!("a question that no node asks, or a newer one"),
        }
    }
}

impl Here {
    /// Statistics of all nodes; `None` if this one has too much to do.
    async fn of_all_nodes(
        &self,
        context: &Context,
        (vocabulary, with_names): (u16, bool),
    ) -> Option<Statistics> {
        let name = self.vocabularies.get(vocabulary)?.name.clone();
        let question = Question::Statistics { from: self.id.clone(), vocabulary, name, with_names };
        let mut all = Statistics::default();
        let asked = context.nats.survey(SUBJECT, question.encode().into(), |answer| {
            match Statistics::decode(&answer.data) {
                Some(piece) => all.add(piece),
                None => warn!("another node's answer cannot be read"),
            }
            true
        });
        let (asked, here) = join(asked, self.pieces(vocabulary, with_names)).await;
        if let Err(error) = asked {
            debug!(%error, "statistics of this node alone");
        }
        here?.into_iter().for_each(|piece| all.add(piece));
        Some(all)
    }

    /// Statistics of this node, in pieces of which each is small enough for NATS.
    async fn pieces(&self, vocabulary: u16, with_names: bool) -> Option<Vec<Statistics>> {
        let described = self.vocabularies.get(vocabulary)?;
        let mut pieces = Vec::new();
        for shard in self.shards.iter() {
            let described = Arc::clone(described);
            let errand = |answer| Errand::Statistics { vocabulary, described, with_names, answer };
            pieces.extend(shard.run(errand).await?);
        }
        Some(pieces)
    }

    async fn answer(&self, enquiry: &Enquiry, vocabulary: u16, with_names: bool) {
        for piece in self.pieces(vocabulary, with_names).await.into_iter().flatten() {
            enquiry.answer(piece.encode().into(), &[]).await;
        }
    }
}
