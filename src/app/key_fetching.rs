//! Fetches the published keys of all issuers, also after the authenticator was replaced.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::auth::cache::StaleTokens;
use crate::auth::key_fetcher;
use crate::auth::key_source::KeySource;
use crate::node::Node;

/// A source whose keys are fetched. The task ends when this is dropped.
struct Fetched {
    source: Arc<KeySource>,
    _task: DropGuard,
}

/// Runs one task for each source of the current authenticator. It never ends, so drop it to stop.
pub(super) async fn run(node: Arc<Node>) {
    let mut authenticators = node.current_authenticator.subscribe();
    let mut running: Vec<Fetched> = Vec::new();
    loop {
        let current = Arc::clone(&authenticators.borrow_and_update());
        let is_used = |source: &Arc<KeySource>| current.key_sources().any(|used| Arc::ptr_eq(used, source));
        running.retain(|fetched| is_used(&fetched.source));
        for source in current.key_sources() {
            if !running.iter().any(|fetched| Arc::ptr_eq(&fetched.source, source)) {
                running.push(start(source, &node));
            }
        }
        drop(current);
        if authenticators.changed().await.is_err() {
            return;
        }
    }
}

fn start(source: &Arc<KeySource>, node: &Arc<Node>) -> Fetched {
    let (stop, node) = (CancellationToken::new(), Arc::clone(node));
    let run = key_fetcher::run(Arc::clone(source), move |source| {
        let issuer = source.settings.rules.issuer.as_str();
        // Tokens of a nameless issuer may have any `iss`.
        let stale = if issuer.is_empty() { StaleTokens::All } else { StaleTokens::OfIssuer(issuer) };
        node.authenticator().forget(stale);
    });
    let stopped = stop.clone();
    tokio::spawn(async move { stopped.run_until_cancelled(run).await });
    Fetched { source: Arc::clone(source), _task: stop.drop_guard() }
}
