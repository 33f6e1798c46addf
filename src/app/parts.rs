//! Builds the node and the parts of every shard from a configuration: channels, limits and names.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use anyhow::Context as _;
use tidegate_protocol::class::Classes;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::SubjectLimits;
use tidegate_protocol::template::Template;
use tidegate_protocol::websocket::AssemblerLimits;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::vocabularies::Vocabularies;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::descriptors::DescriptorBudget;
use crate::app::options::AppOptions;
use crate::app::span_export::SpanExport;
use crate::auth::Authenticator;
use crate::auth::key_source::KeySource;
use crate::auth::setup_error::AuthSetupError;
use crate::config::Config;
use crate::config::endpoint;
use crate::config::endpoint::VocabularyFile;
use crate::config::limits::Limits;
use crate::config::origin::WebOrigin;
use crate::config::report::ConfigReport;
use crate::connection::settings::ConnectionSettings;
use crate::http;
use crate::http::Pages;
use crate::http::accept::SocketCount;
use crate::http::accept::SocketOptions;
use crate::http::admin;
use crate::http::admin::access::Admin;
use crate::http::admin::view::AdminView;
use crate::http::gate::Gate;
use crate::http::gate::GateError;
use crate::http::gate::GateSettings;
use crate::http::redirect;
use crate::http::redirect::RedirectTarget;
use crate::http::serve;
use crate::http::serve::Clients;
use crate::http::serve::ListenerRoutes;
use crate::hub::outbox::limits::OutboxLimits;
use crate::lane;
use crate::lane::LaneSettings;
use crate::lane::LaneStatus;
use crate::lane::Lanes;
use crate::lane::encoder::CompressionSettings;
use crate::lane::feeds::FeedLimits;
use crate::lane::inbox;
use crate::lane::inbox::InboxSender;
use crate::lane::inbox::ShardQueue;
use crate::lane::shard_index::ShardIndex;
use crate::lane::values::ValueLimits;
use crate::nats::control::ControlConnection;
use crate::net::tls::settings::TlsSettings;
use crate::node::Node;
use crate::node::address_limiter::AddressLimiter;
use crate::node::address_limiter::AddressLimits;
use crate::node::admission::Admission;
use crate::node::admission::AdmissionLimits;
use crate::node::answer_budget::AnswerBudget;
use crate::node::answer_budget::AnswerLimits;
use crate::node::audit::Audit;
use crate::node::call_limiter::CallLimiter;
use crate::node::call_limiter::CallLimits;
use crate::node::connection_counts::ConnectionCounts;
use crate::node::counts::NodeCounts;
use crate::node::current::Current;
use crate::node::latest_connections::LatestConnections;
use crate::node::limits::AdjustableLimits;
use crate::node::limits::ConnectionLimits;
use crate::node::limits::RequestLimits;
use crate::node::readiness::Readiness;
use crate::node::refusals::Refusals;
use crate::node::refused_requests::RefusedRequests;
use crate::node::revocations::Revocations;
use crate::node::services::SubscribeServices;
use crate::node::tickets::Tickets;
use crate::node::user_slots::UserSlots;
use crate::shard::ShardParts;
use crate::shard::cluster::Cluster;
use crate::shard::handle::ShardHandle;
use crate::shard::handle::Shards;
use crate::telemetry::spans::Spans;

/// Requests that may wait for a shard.
const REQUESTS: usize = 1024;
/// How long a client waits for a subscription on NATS.
const JOIN_NOTICE_AFTER: Duration = Duration::from_secs(5);

/// A node whose shards have not started.
pub struct Built {
    /// What all shards share.
    pub node: Arc<Node>,
    /// The handles of the shards.
    pub shards: Shards,
    /// The inbox of each shard.
    pub inboxes: Vec<InboxSender>,
    /// The parts of each shard, for its thread.
    pub parts: Vec<ShardParts>,
    /// What serves the sockets of each listener. Sockets that are accepted after a change are served by the new routes.
    pub routes: watch::Sender<Vec<ListenerRoutes>>,
    /// What the admin listener shows, if there is one.
    pub admin: Option<Arc<Admin>>,
    /// The export of its spans.
    pub span_export: SpanExport,
}

/// Builds the node and the parts of its shards, and connects them.
pub fn build(
    options: &AppOptions,
    tls: Option<&TlsSettings>,
    (budget, sockets): (DescriptorBudget, &SocketCount),
    stop: &CancellationToken,
) -> anyhow::Result<Built> {
    let config = &options.config;
    let count = shard_count(config);
    let (handles, requests): (Vec<_>, Vec<_>) = (0..count).map(|_| ShardHandle::new(REQUESTS)).unzip();
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        (0..count).map(|_| inbox::inbox(config.limits.inbox_bytes)).unzip();
    let (lanes, questions): (Vec<_>, Vec<_>) =
        (0..count).map(|_| lane::requests(config.limits.lane_requests)).unzip();
    let (statuses, watched): (Vec<_>, Vec<_>) =
        (0..count).map(|_| watch::channel(LaneStatus::default())).unzip();
    let audit = config.audit.subject.clone().map(|subject| Audit::new(subject, count));
    let (audit, mut audit_receiver) = audit.unzip();
    let (refused_requests, refused_request_receiver) = RefusedRequests::new();
    let mut refused_request_receiver = Some(refused_request_receiver);
    let name = node_name(config)?;
    let (spans, span_export) = SpanExport::start(&config.traces, &name);
    let own = OwnParts { name, budget, audit, refused_requests, spans };
    let node = Arc::new(node(options, Lanes::new(lanes), Readiness::new(watched), own)?);
    let shards = Shards::new(handles.clone());
    let (cluster, worker) = Cluster::new(&node.session_prefix, shards.clone());
    let mut worker = Some(worker);
    let address = options.listener.local_address().ok().and_then(|address| address.tcp());
    let (authenticator, vocabularies) = (node.authenticator(), node.current_vocabularies.get());
    let settings = gate_settings(config, &authenticator, &vocabularies, &node);
    let admin = match &config.admin.listen {
        Some(listen) => {
            let parts = (&node, &shards, &cluster);
            let admin = Admin::new(listen, &authenticator, parts, &senders, sockets, settings.limits)?;
            Some(Arc::new(admin))
        }
        None => None,
    };
    let routes = listener_routes(config, tls, settings, (address, admin.as_ref()))?;
    if let Some(admin) = &admin {
        admin.view.replace(admin_view(config, options.report.clone(), &routes));
    }
    let routes = watch::Sender::new(routes);
    let ends = handles.into_iter().zip(requests).zip(inboxes).zip(questions).zip(statuses);
    let parts = ends.enumerate().map(|(index, ((((handle, requests), inbox), questions), status))| {
        let others = senders.iter().enumerate();
        let shard_queues =
            others.map(|(other, sender)| (other != index).then(|| ShardQueue::new(sender.clone()))).collect();
        let (routes, node_of_routes) = (routes.subscribe(), Arc::clone(&node));
        ShardParts {
            index: ShardIndex(index),
            node: Arc::clone(&node),
            handle,
            requests,
            inbox,
            questions,
            shard_queues,
            status,
            cluster: cluster.clone(),
            cluster_worker: worker.take(),
            audit: audit_receiver.take(),
            refused_requests: refused_request_receiver.take(),
            settings: connection_settings(config, &node),
            serve: Box::new(move |handle| serve::serve(routes, &node_of_routes, &handle)),
            stop: stop.clone(),
        }
    });
    let parts = parts.collect();
    Ok(Built { node, shards, inboxes: senders, parts, routes, admin, span_export })
}

/// The parts of a node that do not follow from its configuration alone.
struct OwnParts {
    name: Arc<str>,
    budget: DescriptorBudget,
    audit: Option<Audit>,
    refused_requests: RefusedRequests,
    spans: Option<Arc<Spans>>,
}

/// Builds what all shards share.
fn node(
    options: &AppOptions,
    lanes: Lanes,
    readiness: Readiness,
    OwnParts { name, budget, audit, refused_requests, spans }: OwnParts,
) -> anyhow::Result<Node> {
    let config = &options.config;
    let authenticator = authenticator(config, &[])?;
    let limits = &config.limits;
    let session_prefix = session_prefix()?;
    let control = ControlConnection::new(&config.nats, &format!("tidegate/{name}/control"));
    let address = options.listener.local_address().ok().map(|address| address.to_string().into());
    Ok(Node {
        name,
        address: address.unwrap_or_default(),
        started: (Instant::now(), SystemTime::now()),
        tickets: Tickets::new(config.auth.ticket, control),
        latest_connections: Arc::new(LatestConnections::new(&session_prefix, replaces_connections(config))),
        session_prefix: session_prefix.into(),
        current_authenticator: Current::new(authenticator),
        revocations: Revocations::default(),
        subscribe_services: SubscribeServices::new(&config.classes),
        address_limiter: AddressLimiter::new(address_limits(limits), Instant::now()),
        origin_limiter: Arc::new(ConnectionCounts::new(to_u32(limits.connections_per_origin))),
        refusals: Refusals::default(),
        refused_requests,
        counts: NodeCounts::default(),
        listeners: Arc::default(),
        user_slots: UserSlots::new(limits.connections_per_user, limits.connections_per_user_policy),
        current_vocabularies: Current::new(Vocabularies::new(vocabulary_files(config))),
        lanes,
        readiness,
        admission: Admission::new(admission_limits(limits, budget), Instant::now()),
        call_limiter: CallLimiter::new(call_limits(limits), Instant::now()),
        answer_budget: Arc::new(AnswerBudget::new(AnswerLimits {
            node: limits.answer_bytes,
            address: limits.address_answer_bytes,
        })),
        agrees_to_compression: config.server.compression,
        compression: compression_settings(config),
        lane: lane_settings(config),
        http: config.http.clone(),
        nats: config.nats.clone(),
        audit,
        spans,
        hooks: options.hooks.clone(),
    })
}

/// The authenticator of a configuration. It takes over the fetched keys of `earlier` sources.
pub fn authenticator(config: &Config, earlier: &[Arc<KeySource>]) -> Result<Authenticator, AuthSetupError> {
    let authenticator = Authenticator::reusing(config.auth.clone(), config.closed_roles(), earlier)?;
    Ok(authenticator.with_exposed_claims(vocabulary_claims(config)))
}

/// The number of shards: as configured, or one for each core.
pub fn shard_count(config: &Config) -> usize {
    match config.server.shards {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        count => count,
    }
}

/// Whether an endpoint has `replace_connections`.
pub fn replaces_connections(config: &Config) -> bool {
    config.endpoints.iter().any(|endpoint| endpoint.replace_connections)
}

/// The vocabularies from files, in the order of their endpoints.
pub fn vocabulary_files(config: &Config) -> Vec<Arc<CompiledVocabulary>> {
    let files = config.endpoints.iter().filter_map(|endpoint| endpoint.file.as_ref());
    files.map(|VocabularyFile(vocabulary)| Arc::clone(vocabulary)).collect()
}

/// The names of the claims that vocabularies use.
fn vocabulary_claims(config: &Config) -> Vec<Box<str>> {
    let files = config.endpoints.iter().filter_map(|endpoint| endpoint.file.as_ref());
    let mut claims: Vec<_> = files.flat_map(|file| file.0.claims.iter().cloned()).collect();
    claims.sort();
    claims.dedup();
    claims
}

/// The routes of each listener: first of `http.listen`, then of the listeners of endpoints, then of
/// `http.redirect_listen`, then of `admin.listen`. Only `http.listen` has the demo page. `address` is its local address.
pub fn listener_routes(
    config: &Config,
    tls: Option<&TlsSettings>,
    settings: GateSettings<'_>,
    (address, admin): (Option<SocketAddr>, Option<&Arc<Admin>>),
) -> Result<Vec<ListenerRoutes>, GateError> {
    let others = endpoint::extra_listeners(&config.endpoints).map(Some);
    let routes = std::iter::once(None).chain(others).map(|listen| {
        let tls = tls.filter(|_| config.uses_tls(listen.as_ref())).cloned();
        let gate = Gate::new(&config.endpoints, listen.as_ref(), settings)?;
        let gate = Arc::new(gate.with_hsts(config.tls.hsts.filter(|_| tls.is_some())));
        let has_tests = config.http.console;
        let pages = Pages { has_demo: has_tests && listen.is_none(), has_tests };
        Ok(ListenerRoutes { routes: http::routes(&gate, pages), gate, tls, clients: Clients::MayUseProxy })
    });
    let redirect = config.http.redirect_listen.map(|_| {
        let gate = Arc::new(Gate::new(&[], None, settings)?);
        let routes = redirect::routes(redirect_target(config, address));
        Ok(ListenerRoutes { routes, gate, tls: None, clients: Clients::MayUseProxy })
    });
    let admin = admin.map(|admin| {
        let gate = Arc::new(Gate::new(&[], None, settings)?);
        let tls = tls.filter(|_| config.admin_uses_tls()).cloned();
        Ok(ListenerRoutes { routes: admin::routes(admin), gate, tls, clients: Clients::Direct })
    });
    routes.chain(redirect).chain(admin).collect()
}

/// What the admin listener shows of this configuration.
pub fn admin_view(config: &Config, report: ConfigReport, routes: &[ListenerRoutes]) -> AdminView {
    let gates = routes.iter().map(|routes| Arc::clone(&routes.gate)).collect();
    let classes = config.classes.clone();
    let class_patterns = Classes::new(classes.clone()).patterns().cloned().collect();
    AdminView { gates, classes, class_patterns, report }
}

/// What the gates of all listeners have in common.
pub fn gate_settings<'s>(
    config: &'s Config,
    authenticator: &'s Authenticator,
    vocabularies: &'s Vocabularies,
    node: &'s Arc<Node>,
) -> GateSettings<'s> {
    GateSettings { http: &config.http, limits: request_limits(config), authenticator, vocabularies, node }
}

/// Where `http.redirect_listen` sends its clients: to the address that browsers use, if it is known. `address` is the
/// local address of `http.listen`; `None` if that is a Unix socket.
fn redirect_target(config: &Config, address: Option<SocketAddr>) -> RedirectTarget {
    let public_url = config.http.public_url.as_ref().map(WebOrigin::as_str);
    if let Some(origin) = public_url.filter(|url| url.starts_with("https://")) {
        return RedirectTarget::Origin(origin.to_owned());
    }
    RedirectTarget::RequestedHost { port: address.map_or(redirect::HTTPS_PORT, |address| address.port()) }
}

/// The name of the node: as configured, or a random one.
fn node_name(config: &Config) -> anyhow::Result<Arc<str>> {
    if !config.server.node.is_empty() {
        return Ok(config.server.node.as_str().into());
    }
    Ok(format!("node-{}", session_prefix()?.trim_end_matches('-')).into())
}

/// The options of accepted sockets.
pub fn socket_options(config: &Config, budget: DescriptorBudget) -> SocketOptions {
    SocketOptions {
        busy_replies: budget.busy_replies,
        send_buffer: config.limits.send_buffer_bytes,
        // Longer than our own timeout, so that ours comes first: it logs the reason.
        user_timeout: config.limits.write_timeout + Duration::from_secs(5),
    }
}

fn session_prefix() -> anyhow::Result<String> {
    let random = getrandom::u32().context("the system has no random numbers")?;
    Ok(format!("{random:08x}-"))
}

/// The settings of the connections of a shard. Each shard has its own copy.
pub fn connection_settings(config: &Config, node: &Node) -> ConnectionSettings {
    ConnectionSettings {
        session: Arc::new(session_settings(config, node)),
        limits: connection_limits(&config.limits),
    }
}

fn session_settings(config: &Config, node: &Node) -> Settings {
    let limits = &config.limits;
    Settings {
        node: Arc::clone(&node.name),
        classes: Classes::new(config.classes.clone()),
        subjects: SubjectLimits {
            max_bytes: limits.max_subject_bytes,
            max_tokens: limits.max_subject_tokens,
        },
        max_message: limits.max_message_bytes,
        max_subscriptions: limits.subscriptions,
        max_wildcards: limits.wildcard_subscriptions,
        max_overlapping: limits.overlapping_subscriptions,
        join_notice_after: JOIN_NOTICE_AFTER,
        max_errors: to_u32(limits.max_errors),
        commands: rate(limits.commands_per_s, limits.commands_burst),
        requests_in_flight: limits.requests_in_flight,
        request_timeout: config.nats.request_timeout,
        request_timeout_max: limits.request_timeout_max,
        publish_max: limits.publish_max_bytes,
        auth_timeout: limits.auth_timeout,
        ping_interval: limits.ping_interval,
        pong_timeout: limits.pong_timeout,
        expiring: limits.expiry_warning,
        hold: node.hooks.hold(),
    }
}

fn connection_limits(limits: &Limits) -> ConnectionLimits {
    ConnectionLimits {
        assembler: AssemblerLimits {
            max_message: limits.max_message_bytes,
            max_fragments: to_u32(limits.max_fragments),
        },
        fragment_timeout: limits.fragment_timeout,
        inbound: rate(limits.inbound_bytes_per_s, limits.inbound_burst_bytes),
        control: rate(limits.control_frames_per_s, limits.control_frames_burst),
        outbox: OutboxLimits { bytes: limits.outbox_bytes, frames: limits.outbox_frames },
        reply_max: limits.delivery_max_bytes,
        write_timeout: limits.write_timeout,
    }
}

fn admission_limits(limits: &Limits, budget: DescriptorBudget) -> AdmissionLimits {
    AdmissionLimits {
        connections: budget.connections,
        handshakes: rate(limits.handshakes_per_s, limits.handshakes_burst),
        wait: limits.handshake_wait,
    }
}

fn address_limits(limits: &Limits) -> AddressLimits {
    AddressLimits {
        connections: to_u32(limits.connections_per_address),
        handshakes: rate(limits.address_handshakes_per_s, limits.address_handshakes_burst),
    }
}

/// The limits of the node that can change while it runs.
pub fn adjustable_limits(limits: &Limits, budget: DescriptorBudget) -> AdjustableLimits {
    AdjustableLimits {
        admission: admission_limits(limits, budget),
        address: address_limits(limits),
        origin_connections: to_u32(limits.connections_per_origin),
        calls: call_limits(limits),
        user_connections: limits.connections_per_user,
    }
}

fn call_limits(limits: &Limits) -> CallLimits {
    CallLimits {
        identity: rate(limits.calls_per_s, limits.calls_burst),
        address: rate(limits.address_calls_per_s, limits.address_calls_burst),
    }
}

fn request_limits(config: &Config) -> RequestLimits {
    let limits = &config.limits;
    RequestLimits {
        handshake_timeout: limits.handshake_timeout,
        // hyper has one timeout for reading the head of a request, the first one too. Ours for the first request is
        // shorter.
        keep_alive: config.http.keep_alive.max(limits.handshake_timeout),
        max_headers: limits.max_headers,
        max_header_bytes: limits.max_header_bytes,
        max_body: limits.max_message_bytes,
        write_timeout: limits.write_timeout,
    }
}

fn lane_settings(config: &Config) -> LaneSettings {
    LaneSettings {
        linger: config.server.feed_linger,
        feeds: FeedLimits {
            values: ValueLimits {
                count: u32::try_from(config.limits.feed_values).unwrap_or(u32::MAX),
                bytes: u32::try_from(config.limits.feed_value_bytes).unwrap_or(u32::MAX),
            },
            delivery_max: config.limits.delivery_max_bytes,
            overlapping: config.limits.overlapping_feeds,
            reserved: Arc::new(configured_wildcards(config)),
        },
        inbox_prefix: config.nats.inbox_prefix.as_str().into(),
    }
}

/// Wildcard patterns of classes, and of roles where they are the same for all users.
fn configured_wildcards(config: &Config) -> HashSet<Pattern> {
    let allowed = config.roles.iter().flat_map(|role| &role.subscribe.allow);
    let allowed = allowed.filter(|template| template.is_static()).map(Template::covering_pattern);
    let of_classes = config.classes.iter().map(|class| class.pattern.clone());
    allowed.chain(of_classes).filter(|pattern| !pattern.is_literal()).collect()
}

fn compression_settings(config: &Config) -> CompressionSettings {
    CompressionSettings {
        min_bytes: config.server.compression_min_bytes,
        level: to_u32(config.server.compression_level),
    }
}

fn rate(per_second: usize, burst: usize) -> Rate {
    Rate { per_second: to_u32(per_second), burst: to_u32(burst) }
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
