//! Answers: what a node tells the others. However many ask, its sessions are gone through a few times a second, and a
//! question that has waited for too long is not answered: no one listens any more.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join3;
use tidegate_protocol::session::checks;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::debug;
use tracing::warn;

use crate::connection::context::Context;
use crate::nats::scatter_gather::Query;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::local_node::SUBJECT;
use crate::shard::cluster::question;
use crate::shard::cluster::question::Kind;
use crate::shard::cluster::question::PeerRequest;
use crate::shard::cluster::question::Piece;
use crate::shard::cluster::question::What;
use crate::shard::cluster::values;

/// Questions of a sort that may wait. What is more is not answered.
const QUESTIONS: usize = 1024;
/// After so long a question is not worth an answer.
const TOO_LATE: Duration = Duration::from_millis(900);
/// From one walk through the sessions to the next.
const PAUSE: Duration = Duration::from_millis(50);

/// A question, and when it came.
struct RequestContext<T> {
    came: Instant,
    enquiry: Query,
    what: T,
}

/// Answers until the connection to NATS ends.
pub(super) async fn answer(context: &Context, here: &LocalNode) {
    let (statistics, statistics_asked) = mpsc::channel(QUESTIONS);
    let (values, values_asked) = mpsc::channel(QUESTIONS);
    let listen = async {
        let subject = match Pattern::parse(SUBJECT) {
            Ok(subject) => subject,
            Err(error) => return warn!(%error, "cannot listen to other nodes"),
        };
        let mut questions = context.nats.responder(subject);
        while let Some(enquiry) = questions.next().await {
            let came = Instant::now();
            let has_room = match PeerRequest::decode(&enquiry.data) {
                Some(PeerRequest { from, .. }) if from == here.id => true,
                Some(PeerRequest { what: What::Statistics(what), .. }) => {
                    statistics.try_send(RequestContext { came, enquiry, what }).is_ok()
                }
                Some(PeerRequest { what: What::Values { channels: what }, .. }) => {
                    values.try_send(RequestContext { came, enquiry, what }).is_ok()
                }
                None => {
                    debug!("a question that no node asks, or a newer one");
                    true
                }
            };
            if !has_room {
                debug!("too many questions of other nodes");
            }
        }
    };
    join3(listen, with_statistics(here, statistics_asked), with_values(context, here, values_asked)).await;
}

async fn with_statistics(here: &LocalNode, mut asked: mpsc::Receiver<RequestContext<Kind>>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, QUESTIONS).await > 0 {
        let mut kinds: BTreeMap<Kind, Vec<Query>> = BTreeMap::new();
        for RequestContext { came, enquiry, what } in waiting.drain(..) {
            if came.elapsed() < TOO_LATE {
                kinds.entry(what).or_default().push(enquiry);
            }
        }
        for (kind, enquiries) in kinds {
            // Who hears nothing counts this node for a moment as gone.
            let Some(pieces) = here.pieces(&kind).await else { continue };
            let piece = |piece: Statistics| Piece { data: piece.encode().into(), ..Piece::default() };
            let pieces: Vec<_> = pieces.into_iter().map(piece).collect();
            for enquiry in enquiries {
                question::answer(&here.id, &enquiry, &pieces);
            }
        }
        sleep(PAUSE).await;
    }
}

async fn with_values(
    context: &Context,
    here: &LocalNode,
    mut asked: mpsc::Receiver<RequestContext<Vec<Box<str>>>>,
) {
    while let Some(RequestContext { came, enquiry, what: channels }) = asked.recv().await {
        let patterns = channels.iter().map(|channel| checks::pattern(&context.settings, channel));
        if came.elapsed() < TOO_LATE
            && let Ok(patterns) = patterns.collect::<Result<Vec<_>, _>>()
            && let Some(found) = values::here(context, &patterns, false).await
        {
            let found: Vec<_> = found.into_iter().flatten().collect();
            question::answer(&here.id, &enquiry, &values::pieces(&found));
        }
    }
}
