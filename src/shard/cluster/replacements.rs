//! Tells the other nodes which connections of users are new, at endpoints with `replace_connections`, and ends those that
//! newer connections of other nodes replace.
//!
//! No node waits for the others. A message that is lost with a connection to NATS is made up for when the node is
//! connected again: it announces all its connections, and nodes that know of newer ones announce these.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::subject::Subject;
use tokio::time::sleep;
use tracing::warn;

use crate::connection::context::Context;
use crate::node::latest_connections::Announcement;
use crate::node::latest_connections::ConnectionOrder;
use crate::node::latest_connections::UserAtEndpoint;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::local_node::SUBJECT;
use crate::shard::cluster::peer_request::PeerConnection;
use crate::shard::cluster::peer_request::PeerQuery;
use crate::shard::cluster::peer_request::PeerRequest;
use crate::telemetry::limit::LogLimit;

/// The pause after a message that NATS has not taken.
const RETRY: Duration = Duration::from_secs(2);

static NOT_ANNOUNCED: LogLimit = LogLimit::every(60, 1);

/// Announces the new connections of this node, until the connection to NATS ends.
pub(super) async fn announce(context: &Context, local: &LocalNode) {
    let latest = &context.node.latest_connections;
    let subject = match Subject::parse(SUBJECT) {
        Ok(subject) => subject,
        Err(error) => return warn!(%error, "cannot tell other nodes about new connections"),
    };
    latest.used().await;
    let mut times_ready = 0;
    let mut nats_changed = pin!(context.nats.changed());
    loop {
        if context.nats.times_ready() != times_ready {
            times_ready = context.nats.times_ready();
            latest.announce_all();
        }
        while context.nats.is_ready() {
            let announcements = latest.take_announcements();
            if announcements.is_empty() {
                break;
            }
            let what = PeerQuery::Replaced(announcements.iter().map(encode).collect());
            let message = PeerRequest { from: local.id.clone(), what }.encode();
            if let Err(error) = context.nats.publish(&subject, message.into(), &[]).await {
                if let Some(suppressed) = NOT_ANNOUNCED.pass() {
                    warn!(
                        %error,
                        suppressed,
                        "cannot tell other nodes about new connections, so a user may have one on each: NATS must \
                         allow this node to publish on {SUBJECT}"
                    );
                }
                latest.announce_all();
                sleep(RETRY).await;
            }
        }
        tokio::select! {
            () = latest.changed() => {}
            () = nats_changed.as_mut() => nats_changed.set(context.nats.changed()),
        }
    }
}

/// Handles the new connections of another node.
pub(super) fn on_announced(context: &Context, from: &str, connections: &[PeerConnection]) {
    let node: Arc<str> = from.into();
    for connection in connections {
        context.node.latest_connections.on_announcement(&decode(connection, &node));
    }
}

fn encode(announcement: &Announcement) -> PeerConnection {
    let Announcement { user: UserAtEndpoint { endpoint, issuer, user }, order } = announcement;
    PeerConnection {
        endpoint: (**endpoint).into(),
        issuer: issuer.as_deref().map(Into::into),
        user: (**user).into(),
        started: order.started,
    }
}

fn decode(connection: &PeerConnection, node: &Arc<str>) -> Announcement {
    let PeerConnection { endpoint, issuer, user, started } = connection;
    Announcement {
        user: UserAtEndpoint {
            endpoint: (**endpoint).into(),
            issuer: issuer.as_deref().map(Into::into),
            user: (**user).into(),
        },
        order: ConnectionOrder { started: *started, node: Arc::clone(node) },
    }
}
