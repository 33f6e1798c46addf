//! What an operator sees of a connection, and which connections an operator asks for.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::subject::Pattern;

use crate::config::network::Network;
use crate::connection::Connection;
use crate::connection::Stage;
use crate::connection::client_address::ClientAddress;
use crate::connection::events::event::SessionNumber;

/// A connection at one moment.
#[derive(Clone, Debug)]
pub struct ConnectionReport {
    /// The id of its session, as in the log and in `connected`.
    pub session: Arc<str>,
    /// `None` until the client has authenticated.
    pub identity: Option<Arc<Identity>>,
    pub endpoint: Box<str>,
    /// `websocket` or `sse`.
    pub transport: &'static str,
    pub client_address: ClientAddress,
    /// What the client says of itself.
    pub user_agent: Option<Box<str>>,
    /// What its vocabulary calls it, or else it itself.
    pub label: Option<Box<str>>,
    pub connected_at: SystemTime,
    /// When its last message came; `None` if there is none.
    pub last_message_at: Option<SystemTime>,
    pub subscriptions: usize,
    /// The bytes and the publications that wait in its outbox.
    pub queued_bytes: usize,
    pub queued_publications: u64,
    /// Since when its socket has taken nothing, although something waits.
    pub stalled_for: Option<Duration>,
    /// The publications that the client was sent, and those that it was not. Gaps that wait in the outbox count.
    pub delivery_counts: DeliveryCounts,
    pub is_closing: bool,
}

/// Which connections to report: those that meet all conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionFilter {
    /// The name of the user.
    pub user: Option<String>,
    /// At least one subscription receives publications of a subject that this pattern matches.
    pub channel: Option<Pattern>,
    /// The client's address, or that of the socket, is in this network.
    pub address: Option<Network>,
    /// What [`ConnectionReport`] has as the label.
    pub label: Option<String>,
}

/// The connections that a filter selects.
#[derive(Clone, Debug, Default)]
pub struct ConnectionList {
    pub matching: usize,
    /// Those with the most queued bytes, the worst first.
    pub worst: Vec<ConnectionReport>,
}

impl ConnectionList {
    /// Adds the list of another shard, and keeps the `most` worst of both.
    pub fn merge(&mut self, other: Self, most: usize) {
        self.matching += other.matching;
        self.worst.extend(other.worst);
        self.worst.sort_by_key(|report| Reverse(report.queued_bytes));
        self.worst.truncate(most);
    }
}

impl Connection {
    /// What an operator sees of it at `now`.
    pub fn report(&self, now: Now) -> ConnectionReport {
        let ago = |instant: Instant| now.instant.saturating_duration_since(instant);
        let at = |instant: Instant| now.wall.checked_sub(ago(instant)).unwrap_or(now.wall);
        let name = self.log_context.client_name();
        let name = name.as_deref();
        let DeliveryCounts { delivered: queued_publications, dropped } = self.subscriber.waiting();
        let mut delivery_counts = self.delivery_counts.get();
        delivery_counts.dropped += dropped;
        ConnectionReport {
            session: Arc::clone(self.session.borrow().id()),
            identity: self.log_context.identity(),
            endpoint: self.policy.endpoint.clone(),
            transport: self.transport.kind().name(),
            client_address: self.log_context.client_address,
            user_agent: name.map(|name| name.user_agent.clone()).filter(|name| !name.is_empty()),
            label: self.label(),
            connected_at: at(self.log_context.started.into()),
            last_message_at: self.log_context.last_message().map(at),
            subscriptions: self.subscriber.member_count(),
            queued_bytes: self.queued_bytes(),
            queued_publications,
            stalled_for: self.blocked_since.get().map(|since| ago(since.into())),
            delivery_counts,
            is_closing: self.stage.get() != Stage::Open,
        }
    }

    /// The channels of its subscriptions, in the order in which they began.
    pub fn channels(&self) -> Vec<Pattern> {
        self.subscriber.map_members(|member| member.pattern.clone())
    }

    /// What its vocabulary calls the client, or else the client itself.
    fn label(&self) -> Option<Box<str>> {
        let identity = self.log_context.identity();
        let of_vocabulary = identity.and_then(|identity| self.session.borrow().label(&identity));
        let own = || Some(self.log_context.client_name()?.label.clone());
        of_vocabulary.map(Into::into).or_else(own).filter(|label| !label.is_empty())
    }

    /// The bytes that wait in its outbox.
    pub fn queued_bytes(&self) -> usize {
        self.subscriber.bytes()
    }

    /// The number of its session.
    pub fn session_number(&self) -> SessionNumber {
        self.mark.number
    }

    /// Whether its session has this id.
    pub fn has_session(&self, id: &str) -> bool {
        **self.session.borrow().id() == *id
    }

    /// Whether it meets all conditions of a filter.
    pub fn matches(&self, filter: &ConnectionFilter) -> bool {
        let ConnectionFilter { user, channel, address, label } = filter;
        let has_user =
            |user: &String| self.log_context.identity().is_some_and(|identity| *identity.user == **user);
        let ClientAddress { peer, forwarded } = self.log_context.client_address;
        let is_in = |network: &Network| {
            [forwarded, peer.ip()].into_iter().flatten().any(|address: IpAddr| network.contains(address))
        };
        let receives =
            |channel: &Pattern| self.subscriber.any_member(|member| member.pattern.overlaps(channel));
        user.as_ref().is_none_or(has_user)
            && address.as_ref().is_none_or(is_in)
            && label.as_ref().is_none_or(|label| self.label().is_some_and(|own| *own == **label))
            && channel.as_ref().is_none_or(receives)
    }
}
