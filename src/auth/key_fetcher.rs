//! Fetches the keys of an issuer, again and again.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tracing::info;
use tracing::warn;

use crate::auth::key_set::DocumentError;
use crate::auth::key_set::KeySet;
use crate::auth::key_set::SkippedKey;
use crate::auth::key_set::parse_discovery;
use crate::auth::key_set::parse_key_set;
use crate::auth::key_source::FETCH_TIMEOUT;
use crate::auth::key_source::KeySource;
use crate::config::auth::remote_keys::KeyUrl;
use crate::config::auth::remote_keys::KeysLocation;
use crate::net::fetch::FetchError;
use crate::net::fetch::FetchTarget;
use crate::net::fetch::fetch;
use crate::telemetry::limit::LogLimit;

/// The most bytes of a key set or a discovery document.
pub const MAX_DOCUMENT: usize = 256 * 1024;

static FETCHED: LogLimit = LogLimit::per_second(10);
static FAILED: LogLimit = LogLimit::per_second(10);
static SKIPPED: LogLimit = LogLimit::per_second(20);

/// Why the keys of an issuer could not be fetched.
#[derive(Debug, Error)]
enum RefreshError {
    #[error("cannot fetch {url}: {problem}")]
    Fetch { url: KeyUrl, problem: FetchError },
    #[error("cannot use {url}: {problem}")]
    Document { url: KeyUrl, problem: DocumentError },
    #[error("no answer within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
}

/// Fetches the keys of this source whenever that is due. It never ends, so drop it to stop. `on_removed` is called after
/// a set without some of the earlier keys has come into use: cached tokens of the issuer must be verified again.
pub async fn run(source: Arc<KeySource>, on_removed: impl Fn(&KeySource)) {
    let mut discovered = None;
    let mut skipped = Vec::new();
    loop {
        source.next_fetch().await;
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, fetch_keys(&source, &mut discovered)).await;
        match fetched.unwrap_or(Err(RefreshError::Timeout)) {
            Ok(set) => take(&source, set, &mut skipped, &on_removed),
            Err(error) => {
                // The issuer may have moved its keys.
                discovered = None;
                source.finish(None, Instant::now());
                note_failure(&source, &error);
            }
        }
    }
}

/// Puts a fetched set into use.
fn take(source: &KeySource, set: KeySet, skipped: &mut Vec<SkippedKey>, on_removed: &impl Fn(&KeySource)) {
    let issuer = &source.settings.rules.issuer;
    let failures = source.state().failures;
    let count = set.keys.len();
    let earlier = source.finish(Some(set.keys), Instant::now());
    let keys = source.keys().unwrap_or_default();
    let has_changed =
        earlier.as_ref().is_none_or(|earlier| earlier.len() != keys.len() || !earlier.are_all_in(&keys));
    if earlier.is_some_and(|earlier| !earlier.are_all_in(&keys)) {
        on_removed(source);
    }
    if has_changed && let Some(suppressed) = FETCHED.pass() {
        info!(%issuer, keys = count, failures, suppressed, "the issuer has new keys");
    }
    if *skipped != set.skipped {
        for SkippedKey { kid, reason } in &set.skipped {
            if let Some(suppressed) = SKIPPED.pass() {
                warn!(%issuer, %kid, suppressed, "a key of the issuer is not used, because it {reason}");
            }
        }
        *skipped = set.skipped;
    }
}

fn note_failure(source: &KeySource, error: &RefreshError) {
    let Some(suppressed) = FAILED.pass() else { return };
    let state = source.state();
    let issuer = &source.settings.rules.issuer;
    let (failures, retry_s) = (state.failures, (state.next - Instant::now()).as_secs());
    if state.keys.is_some() {
        let advice = "cannot refresh the keys of an issuer, so the last ones stay in use";
        warn!(%issuer, %error, failures, retry_s, suppressed, "{advice}");
    } else {
        let advice = "cannot fetch the keys of an issuer, so none of its tokens can be verified yet: see `error`, and check \
                      jwks_url and issuer";
        warn!(%issuer, %error, failures, retry_s, suppressed, "{advice}");
    }
}

async fn fetch_keys(source: &KeySource, discovered: &mut Option<KeyUrl>) -> Result<KeySet, RefreshError> {
    let settings = &source.settings;
    let url = match (&settings.remote.location, &*discovered) {
        (KeysLocation::KeySet(url), _) | (KeysLocation::Discovery(_), Some(url)) => url.clone(),
        (KeysLocation::Discovery(url), None) => {
            let document = document(source, url).await?;
            let found = parse_discovery(&document, &settings.rules.issuer);
            discovered.insert(found.map_err(|problem| unusable(url, problem))?).clone()
        }
    };
    let document = document(source, &url).await?;
    parse_key_set(&document, &settings.remote.algorithms, &settings.rules)
        .map_err(|problem| unusable(&url, problem))
}

async fn document(source: &KeySource, url: &KeyUrl) -> Result<Vec<u8>, RefreshError> {
    let target = FetchTarget {
        is_tls: url.0.is_tls,
        host: &url.0.host,
        port: url.0.port,
        path: &url.0.path,
        ca_file: source.settings.remote.ca_file.as_deref(),
    };
    fetch(target, MAX_DOCUMENT).await.map_err(|problem| RefreshError::Fetch { url: url.clone(), problem })
}

fn unusable(url: &KeyUrl, problem: DocumentError) -> RefreshError {
    RefreshError::Document { url: url.clone(), problem }
}
