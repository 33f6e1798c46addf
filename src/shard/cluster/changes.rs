//! Makes the changes of operators and backends on all nodes: of the sessions of users, and revocations.

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::connection::context::Context;
use crate::shard::cluster::calls::ChangeCall;
use crate::shard::cluster::change_record;
use crate::shard::cluster::change_record::ChangeError;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::revoke::revoke_on_all_nodes;
use crate::shard::cluster::user_changes::change_on_all_nodes;

/// Calls that wait for answers at a time. Others wait for them.
const CONCURRENT_CALLS: usize = 64;

/// Serves calls until no more can come.
pub(super) async fn serve(context: &Context, local: &LocalNode, mut calls: mpsc::Receiver<ChangeCall>) {
    let calls = stream::poll_fn(|task| calls.poll_recv(task));
    calls
        .for_each_concurrent(CONCURRENT_CALLS, |call| async {
            // An error of `send` means that the caller has gone.
            match call {
                ChangeCall::User { change, by, answer } => {
                    let outcome = change_on_all_nodes(context, local, &change).await;
                    change_record::of_user(&context.node, &change, &by, &outcome);
                    let _ = answer.send(outcome.map_err(ChangeError::into_client_error));
                }
                ChangeCall::Revoke { message, by, answer } => {
                    let outcome = revoke_on_all_nodes(context, local, &message).await;
                    change_record::of_revocation(&context.node, &message, &by, &outcome);
                    let _ = answer.send(outcome.map_err(ChangeError::into_client_error));
                }
            }
        })
        .await;
}
