//! Makes the changes of operators and backends on all nodes: of the sessions of users, and revocations.

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::connection::context::Context;
use crate::shard::cluster::calls::ChangeCall;
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
                ChangeCall::User { change, answer } => {
                    let _ = answer.send(change_on_all_nodes(context, local, &change).await);
                }
                ChangeCall::Revoke { message, answer } => {
                    let _ = answer.send(revoke_on_all_nodes(context, local, &message).await);
                }
            }
        })
        .await;
}
