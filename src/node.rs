//! `Node`: the state that all shards and listeners of one process share. `app` builds it once.

pub mod address_key;
pub mod address_limiter;
pub mod admission;
pub mod answer_budget;
mod ask;
mod atomic_rate;
pub mod audit;
pub mod call_limiter;
pub mod connection_counts;
pub mod connection_guard;
pub mod counts;
pub mod current;
pub mod latest_connections;
pub mod limits;
mod local_tickets;
pub mod permit;
mod rate_buckets;
pub mod readiness;
pub mod refusals;
pub mod refused_by_vocabulary;
pub mod refused_requests;
mod replacement_flag;
pub mod request_counts;
pub mod revocations;
pub mod services;
pub mod shared_counter;
pub mod slots;
pub mod tickets;
pub mod user_slots;

use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::identity::Identity;
use tidegate_vocabulary::vocabularies::Vocabularies;

use crate::auth::Authenticator;
use crate::auth::Unidentified;
use crate::auth::error::AuthError;
use crate::auth::policy::Policy;
use crate::auth::policy::Via;
use crate::auth::service::ClientFacts;
use crate::config::auth::service::ServiceConfig;
use crate::config::http::HttpConfig;
use crate::config::nats::NatsConfig;
use crate::hooks::Hooks;
use crate::hub::channel_listeners::ChannelListeners;
use crate::lane::LaneSettings;
use crate::lane::Lanes;
use crate::lane::encoder::CompressionSettings;
use crate::node::address_limiter::AddressLimiter;
use crate::node::admission::Admission;
use crate::node::answer_budget::AnswerBudget;
use crate::node::audit::Audit;
use crate::node::call_limiter::CallLimiter;
use crate::node::connection_counts::ConnectionCounts;
use crate::node::counts::NodeCounts;
use crate::node::current::Current;
use crate::node::latest_connections::LatestConnections;
use crate::node::limits::AdjustableLimits;
use crate::node::readiness::Readiness;
use crate::node::refusals::Refusals;
use crate::node::refused_requests::RefusedRequests;
use crate::node::revocations::Revocations;
use crate::node::services::SubscribeServices;
use crate::node::tickets::Tickets;
use crate::node::user_slots::UserSlots;
use crate::telemetry::spans::Spans;

/// State shared by all threads. A shard keeps its own state in its `Context`, in plain cells.
#[derive(Debug)]
pub struct Node {
    /// The name in logs, in `connected` messages, and in the names of the NATS connections.
    pub name: Arc<str>,
    /// The local address of `http.listen`.
    pub address: Box<str>,
    /// When it started, by both clocks.
    pub started: (Instant, SystemTime),
    /// Random for each start. Session ids begin with it, and other nodes identify this node by it.
    pub session_prefix: Box<str>,
    /// Verifies credentials; see [`Node::authenticator`].
    pub current_authenticator: Current<Authenticator>,
    /// Which credentials are revoked, and which permissions are withdrawn.
    pub revocations: Revocations,
    /// Limits the connections of each client address.
    pub address_limiter: AddressLimiter,
    /// Limits the connections of the pages of each origin.
    pub origin_limiter: Arc<ConnectionCounts>,
    /// Counts what the limits refuse.
    pub refusals: Refusals,
    /// Passes refused requests to the shard that keeps them for operators.
    pub refused_requests: RefusedRequests,
    /// Counts what else the node refuses, and its reloads.
    pub counts: NodeCounts,
    /// Limits the listeners of each channel.
    pub listeners: Arc<ChannelListeners>,
    /// What services have decided about subscriptions.
    pub subscribe_services: SubscribeServices,
    /// One-time credentials for one connect.
    pub tickets: Tickets,
    /// Limits the connections of each user.
    pub user_slots: UserSlots,
    /// The newest connection of each user, at endpoints with `replace_connections`.
    pub latest_connections: Arc<LatestConnections>,
    /// The vocabularies that are loaded from files.
    pub current_vocabularies: Current<Vocabularies>,
    /// Handles to all lanes.
    pub lanes: Lanes,
    /// Whether the node is ready, and whether it drains.
    pub readiness: Readiness,
    /// Limits the connections of the node and the rate of handshakes.
    pub admission: Admission,
    /// Limits the rate of HTTP calls.
    pub call_limiter: CallLimiter,
    /// Limits the bytes of the answers that wait for callers.
    pub answer_budget: Arc<AnswerBudget>,
    /// Whether the node accepts offers of permessage-deflate.
    pub agrees_to_compression: bool,
    /// Which publications are compressed, and at which level.
    pub compression: CompressionSettings,
    pub lane: LaneSettings,
    pub http: HttpConfig,
    pub nats: NatsConfig,
    /// Records what happens to clients, if there is an audit feed.
    pub audit: Option<Audit>,
    /// Records spans, if they are exported.
    pub spans: Option<Arc<Spans>>,
    /// Fault injection for tests.
    pub hooks: Hooks,
}

impl Node {
    /// The authenticator of the moment: hold the `Arc` if one decision needs several calls.
    pub fn authenticator(&self) -> Arc<Authenticator> {
        self.current_authenticator.get()
    }

    /// Uses other limits from now on. What is counted already counts for them too. Changes between a limit and none are
    /// not possible: without a limit, nothing is counted.
    pub fn change_limits(&self, limits: &AdjustableLimits) {
        self.admission.change_limits(limits.admission);
        self.address_limiter.change_limits(limits.address);
        self.origin_limiter.change_limit(limits.origin_connections);
        self.call_limiter.change_limits(limits.calls);
        self.user_slots.change_limit(limits.user_connections);
    }

    /// The identity of a credential at an endpoint, with what revocations leave of it. It waits, a few seconds at most,
    /// if the issuer may have published the key of the token only now, or if a service judges the credential: `facts` is
    /// what that service learns besides.
    pub async fn verify(
        self: &Arc<Self>,
        policy: &Policy,
        via: Via,
        credential: &str,
        facts: impl FnOnce(&ServiceConfig) -> ClientFacts,
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        match self.verify_now(policy, via, credential, now) {
            Err(Unidentified::NeedsKeys(pending)) => Box::pin(pending.wait()).await,
            Err(Unidentified::NeedsService(service)) => {
                let facts = facts(&service.config);
                let about = (&*policy.endpoint, &facts);
                return Box::pin(self.ask_connect_service(&service, Some(credential), about, now)).await;
            }
            result => return result.map_err(Unidentified::into_refusal),
        }
        self.verify_now(policy, via, credential, now).map_err(Unidentified::into_refusal)
    }

    /// The same without waiting.
    pub fn verify_now(
        &self,
        policy: &Policy,
        via: Via,
        credential: &str,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Unidentified> {
        let identity = self.authenticator().identify_at(policy, via, credential, now)?;
        self.revocations.apply(identity, now).map_err(Unidentified::Refused)
    }
}
