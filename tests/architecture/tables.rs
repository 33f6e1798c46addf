//! The rules as tables: which module may import which, which file may use which crate, which words are banned where.

/// Each module, and the modules of ours that it may import. A new edge is a decision: change this table and
/// `docs/ARCHITECTURE.md` in the same commit. `hooks` does nothing outside tests.
pub(crate) const LAYERS: [(&str, &[&str]); 16] = [
    ("main", &["cli"]),
    ("cli", &["app", "config", "telemetry", "auth", "nats", "net"]),
    (
        "app",
        &[
            "http",
            "shard",
            "connection",
            "node",
            "lane",
            "auth",
            "nats",
            "hub",
            "net",
            "telemetry",
            "config",
            "hooks",
        ],
    ),
    (
        "http",
        &[
            "shard",
            "connection",
            "node",
            "lane",
            "auth",
            "nats",
            "hub",
            "net",
            "telemetry",
            "metrics",
            "config",
        ],
    ),
    ("shard", &["connection", "node", "lane", "auth", "nats", "hub", "net", "telemetry", "config", "hooks"]),
    (
        "connection",
        &["node", "lane", "auth", "nats", "hub", "net", "telemetry", "metrics", "config", "hooks"],
    ),
    ("node", &["lane", "auth", "nats", "hub", "telemetry", "config", "hooks"]),
    ("lane", &["nats", "telemetry", "metrics", "config", "hooks"]),
    ("auth", &["net", "telemetry", "config"]),
    ("nats", &["net", "telemetry", "config", "hooks"]),
    ("hub", &["hooks"]),
    ("net", &["telemetry", "config"]),
    ("telemetry", &["config"]),
    ("metrics", &[]),
    ("config", &[]),
    ("hooks", &[]),
];

/// Each dependency, and the files that may use it, by the beginnings of their paths in `src`. Files of our other crates
/// have the crate's name in front.
pub(crate) const DOORS: [(&str, &[&str]); 48] = [
    ("anyhow", &["app", "cli", "tidegate-bench"]),
    ("async_nats", &["nats/client.rs", "nats/key_value.rs"]),
    ("aws_lc_rs", &["auth", "net/acme", "net/client_tls.rs", "net/tls"]),
    (
        "base64",
        &["tidegate-protocol", "auth", "http", "nats/direct_get.rs", "nats/key_value.rs", "nats/login.rs"],
    ),
    (
        "bytes",
        &[
            "tidegate-vocabulary",
            "tidegate-protocol",
            "hub",
            "nats",
            "lane",
            "connection",
            "shard",
            "http",
            "net/acme/http.rs",
            "auth/decisions.rs",
            "node/ask.rs",
            "cli/check/needs.rs",
            "cli/demo.rs",
        ],
    ),
    ("clap", &["cli", "tidegate-bench/command"]),
    ("config", &["config"]),
    ("fastrand", &["cli/demo.rs", "nats/servers.rs", "tidegate-bench"]),
    ("flate2", &["tidegate-protocol/deflate.rs", "tidegate-bench/inflate_cache.rs"]),
    (
        "futures_util",
        &[
            "auth/decisions.rs",
            "lane/pending_reads.rs",
            "nats",
            "shard",
            "connection/event_stream.rs",
            "http/calls.rs",
            "http/publish.rs",
            "http/users.rs",
            "http/admin",
            "http/busy_reply.rs",
            "node/readiness.rs",
        ],
    ),
    ("getrandom", &["app", "auth/ticket.rs", "cli", "tidegate-bench/servers.rs"]),
    ("hdrhistogram", &["tidegate-bench"]),
    ("headers", &["http"]),
    ("httparse", &["http"]),
    ("humantime", &["tidegate-vocabulary", "net/tls", "lane/produced.rs", "nats/direct_get.rs"]),
    ("hyper", &["http", "net/acme/http.rs", "net/fetch.rs", "net/http_exchange.rs"]),
    ("hyper_util", &["http", "net/http_exchange.rs"]),
    ("instant_acme", &["net/acme"]),
    ("itoa", &["tidegate-protocol"]),
    ("jsonwebtoken", &["auth", "tidegate-bench/servers.rs"]),
    ("memchr", &["http/bare_lf_guard.rs", "nats"]),
    ("mio", &["tidegate-bench"]),
    ("nkeys", &["nats"]),
    ("percent_encoding", &["tidegate-protocol/url.rs"]),
    ("prometheus_client", &["metrics/text.rs"]),
    ("rcgen", &["net/acme", "tidegate-bench/tls.rs"]),
    (
        "rustix",
        &[
            "app",
            "cli",
            "http/accept.rs",
            "net/acme/cache.rs",
            "net/listener.rs",
            "net/socket.rs",
            "tidegate-bench",
        ],
    ),
    ("rustls", &["net", "tidegate-bench/client", "tidegate-bench/servers.rs", "tidegate-bench/tls.rs"]),
    ("rustls_native_certs", &["net/client_tls.rs"]),
    (
        "serde",
        &[
            "tidegate-protocol/json.rs",
            "tidegate-protocol/members.rs",
            "tidegate-protocol/native",
            "tidegate-protocol/payload.rs",
            "tidegate-protocol/delivery_counts.rs",
            "tidegate-vocabulary",
            "auth",
            "node/audit",
            "shard/cluster",
        ],
    ),
    (
        "serde_json",
        &[
            "node/audit",
            "shard/audit.rs",
            "tidegate-protocol/json.rs",
            "tidegate-protocol/members.rs",
            "tidegate-protocol/native",
            "tidegate-protocol/payload.rs",
            "tidegate-protocol/writer.rs",
            "tidegate-vocabulary",
            "auth",
            "http",
            "net/acme/cache.rs",
            "cli",
            "tidegate-bench",
            "nats/acknowledgement.rs",
            "nats/api_error.rs",
            "nats/client.rs",
            "nats/buckets",
            "nats/info.rs",
            "nats/direct_get.rs",
            "nats/key_value.rs",
            "nats/login.rs",
            "nats/permissions.rs",
            "nats/storage.rs",
            "nats/streams.rs",
            "net/otlp.rs",
            "shard/cluster",
        ],
    ),
    ("slab", &["connection", "hub", "lane", "tidegate-bench"]),
    ("smallvec", &["lane", "shard"]),
    ("socket2", &["net", "http", "tidegate-bench"]),
    ("thiserror", &[""]),
    ("tidegate_bench", &["cli"]),
    (
        "tidegate_document",
        &[
            "cli",
            "config",
            "auth/explanation.rs",
            "auth/keys.rs",
            "http/admin/config.rs",
            "http/admin/parameters.rs",
            "nats/files.rs",
            "net/tls/files.rs",
            "tidegate-vocabulary",
        ],
    ),
    (
        "tidegate_protocol",
        &[
            "app",
            "auth",
            "cli",
            "config",
            "connection",
            "http",
            "hub",
            "lane",
            "nats",
            "node",
            "shard",
            "telemetry/spans.rs",
            "tidegate-vocabulary",
        ],
    ),
    // The hub, lanes and connections use the trait of dialects, never a particular dialect.
    ("tidegate_vocabulary", &["app", "cli", "config", "http", "node", "shard"]),
    (
        "tokio",
        &[
            "net",
            "nats",
            "lane",
            "node",
            "connection",
            "shard",
            "http",
            "app",
            "cli",
            "hooks",
            "auth/decisions.rs",
            "auth/shares.rs",
            "auth/key_source.rs",
            "auth/key_source",
            "auth/key_fetcher.rs",
        ],
    ),
    ("tokio_rustls", &["net", "nats"]),
    ("tokio_util", &["nats", "lane", "node", "connection", "shard", "http", "app", "cli"]),
    ("toml", &["tidegate-document/parse.rs", "tidegate-bench/servers/vocabulary.rs"]),
    (
        "tracing",
        &["nats", "lane", "node", "connection", "shard", "http", "net", "app", "cli", "auth", "telemetry"],
    ),
    ("tracing_subscriber", &["telemetry", "config/log.rs"]),
    ("tungstenite", &["tidegate-protocol"]),
    ("warp", &["http"]),
    ("webpki", &["net/tls/certificate.rs"]),
];

/// Words that are banned in some files: the beginnings of paths in `src`, the words, the reason.
pub(crate) const BANS: [(&[&str], &[&str], &str); 2] = [
    (
        &["tidegate-document", "tidegate-protocol", "tidegate-vocabulary"],
        &[
            "tokio",
            "async",
            ".await",
            "Instant::now",
            "SystemTime::now",
            "std::net",
            "std::fs",
            "std::env",
            "std::thread",
            "getrandom",
            "RandomState",
            "rand",
        ],
        "the core performs no I/O, reads no clock and draws no chance: they are arguments",
    ),
    (
        &["hub", "lane/feed.rs", "lane/feeds.rs", "lane/encoder.rs", "lane/values.rs"],
        &["tokio", "async", ".await", "Instant::now", "SystemTime::now"],
        "hub and feed are data: they never wait",
    ),
];

/// Banned words that a file may say all the same, and why.
pub(crate) const EXCEPTIONS: [(&str, &str, &str); 1] =
    [("tidegate-protocol/moment.rs", "Instant::now", "the zero of all moments: no decision depends on it")];

/// Hashers with known keys: a client that chooses the keys of a map could make them collide.
pub(crate) const KNOWN_HASHERS: [&str; 13] = [
    "FxHash",
    "FxHashMap",
    "FxHashSet",
    "FxHasher",
    "FxBuildHasher",
    "rustc_hash",
    "fnv",
    "FnvHashMap",
    "ahash",
    "nohash",
    "DefaultHasher",
    "SipHasher",
    "BuildHasherDefault",
];

/// Words that only some files may contain: the words, the beginnings of those files' paths, the reason.
pub(crate) const PRIVILEGES: [(&[&str], &[&str], &str); 4] = [
    (
        &[
            "tokio::spawn",
            "task::spawn",
            "task::spawn_local",
            "thread::spawn",
            "thread::scope",
            "thread::Builder",
        ],
        &["app", "shard", "tidegate-bench"],
        "threads and tasks are started by app and shard, and by others on the tracker that they are given; \
         tidegate-bench is a program of its own",
    ),
    (
        &["task::spawn_blocking", "spawn_blocking"],
        &["app", "shard", "tidegate-bench", "net/client_tls.rs", "http/admin/process.rs"],
        "blocking work runs on another thread: waiting until the shards have ended, reading CA certificates, and \
         counting descriptors on old kernels",
    ),
    (
        &["LocalSet", "runtime::Builder", "runtime::Runtime"],
        &["app", "shard", "cli/common.rs"],
        "a runtime is a shard's, or the one around the shards",
    ),
    (
        &["env::var", "env::vars", "env::var_os", "env::vars_os", "env::set_var"],
        &["config"],
        "only config reads the environment",
    ),
];

/// The files in which clients and NATS can cause log lines, and the lines above `debug` there that need no limit:
/// a peer cannot cause them repeatedly, or they count by themselves.
pub(crate) const REACHED: [&str; 6] = ["http", "shard", "connection", "lane", "auth", "nats"];
pub(crate) const SELDOM: [&str; 6] = [
    "cannot listen\"",
    "cannot set options of the listener",
    "a shard has panicked",
    "cannot subscribe to the requests of other nodes",
    "skipped malformed messages from nats",
    "a lane has an item for a shard that does not exist",
];

/// What the JSON format of logs adds to each line, or may add.
pub(crate) const LOG_NAMES: [&str; 11] = [
    "timestamp",
    "level",
    "target",
    "message",
    "fields",
    "span",
    "spans",
    "filename",
    "line_number",
    "threadName",
    "threadId",
];

pub(crate) const LONGEST_FILE: usize = 600;
