//! `AcmeClient`: orders certificates from a certificate authority by ACME (RFC 8555), and renews them. Nodes may share a
//! cache folder: one of them orders, the others use what it got.

mod cache;
pub mod error;
mod http;
mod order;
mod schedule;

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::error;
use tracing::info;

use crate::config::tls::acme::AcmeConfig;
use crate::net::acme::cache::Cache;
use crate::net::acme::error::AcmeError;
use crate::net::acme::http::AcmeHttp;
use crate::net::acme::order::order;
use crate::net::acme::schedule::Retry;
use crate::net::acme::schedule::due;
use crate::net::tls::certificate::Certificate;
use crate::net::tls::certificate::date;
use crate::net::tls::challenges::Challenges;

/// How often the cache is read while another node orders.
const LOCKED_PAUSE: Duration = Duration::from_secs(5);
/// How often it is read otherwise: another node may have renewed the certificate, and clocks may be set.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// How often it is read when the order waits after an error: another node may be luckier.
const RETRY_PAUSE: Duration = Duration::from_mins(1);

/// Keeps the certificate of one configuration.
pub struct AcmeClient {
    config: AcmeConfig,
    cache: Cache,
    http: AcmeHttp,
    challenges: Challenges,
    issued: mpsc::Sender<Arc<Certificate>>,
    current: Option<Arc<Certificate>>,
    /// The last failure, also if the cache does not have it.
    last_retry: Retry,
    /// From 0 to 1: nodes that share no cache renew at different times.
    jitter: f64,
}

impl AcmeClient {
    /// Opens the cache. `issued` receives each certificate that is to be used; `jitter` is from 0 to 1.
    pub fn new(
        config: &AcmeConfig,
        issued: mpsc::Sender<Arc<Certificate>>,
        jitter: f64,
    ) -> Result<Self, AcmeError> {
        Ok(Self {
            config: config.clone(),
            cache: Cache::open(config)?,
            http: AcmeHttp::new(config.directory_ca_file.as_deref())?,
            challenges: Challenges::new(config),
            issued,
            current: None,
            last_retry: Retry::default(),
            jitter,
        })
    }

    /// Orders and renews for as long as this future is polled.
    pub async fn run(mut self) {
        loop {
            let pause = self.step().await;
            sleep(pause).await;
        }
    }

    /// Does what is due now, and returns how long to wait then.
    async fn step(&mut self) -> Duration {
        self.use_cached().await;
        let now = SystemTime::now();
        if let Some(wait) = self.wait(now) {
            return wait.min(LONGEST_PAUSE);
        }
        if let Some(wait) = self.retry().wait(now) {
            return wait.min(RETRY_PAUSE);
        }
        let lock = match self.cache.lock() {
            Ok(Some(lock)) => lock,
            // Another node orders.
            Ok(None) => return LOCKED_PAUSE,
            Err(error) => return self.failed(&error),
        };
        // Another node may have ordered in the meantime.
        self.use_cached().await;
        if let Some(wait) = self.wait(SystemTime::now()) {
            return wait.min(LONGEST_PAUSE);
        }
        let domains = self.config.domains.join(", ");
        info!(domains, directory = self.config.directory_url, "ordering a certificate");
        let ordered = order(&self.config, &self.cache, &self.http, &self.challenges).await;
        Cache::remove_challenges(&self.config, &self.challenges);
        let stored = ordered.and_then(|pem| self.cache.store_certificate(&pem));
        drop(lock);
        match stored {
            Ok(()) => {
                self.use_cached().await;
                match self.wait(SystemTime::now()) {
                    Some(wait) => wait.min(LONGEST_PAUSE),
                    // Otherwise orders would follow each other without end.
                    None => self.failed(&AcmeError::DueAtOnce),
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// When to order again: as the cache says, or later, if it could not be written.
    fn retry(&self) -> Retry {
        let cached = self.cache.retry();
        if cached.at < self.last_retry.at { self.last_retry } else { cached }
    }

    /// How long until the certificate must be renewed; `None` if that is now, or if there is none.
    fn wait(&self, now: SystemTime) -> Option<Duration> {
        let validity = self.current.as_ref()?.validity;
        due(validity, self.jitter).duration_since(now).ok().filter(|wait| !wait.is_zero())
    }

    /// Uses the certificate of the cache, if it is a new one.
    async fn use_cached(&mut self) {
        let certificate = match self.cache.certificate() {
            Ok(Some(certificate)) => certificate,
            Ok(None) => return,
            Err(error) => {
                error!(%error, "the cached certificate cannot be used, so a new one is ordered");
                return;
            }
        };
        if self.current.as_ref().is_some_and(|current| current.is_same(&certificate)) {
            return;
        }
        let expires = date(certificate.validity.not_after);
        info!(domains = self.config.domains.join(", "), expires, "using a certificate of the authority");
        let certificate = Arc::new(certificate);
        self.current = Some(Arc::clone(&certificate));
        // It fails only if the node ends.
        let _ = self.issued.send(certificate).await;
    }

    /// Logs the error and notes when to try again. Returns how long to wait.
    fn failed(&mut self, error: &AcmeError) -> Duration {
        let retry = self.retry().after_failure(SystemTime::now(), error.is_rate_limit());
        self.last_retry = retry;
        let Retry { failures, .. } = retry;
        let wait = retry.wait(SystemTime::now()).unwrap_or_default();
        let kept = if self.current.is_some() { ", so the old certificate stays" } else { "" };
        error!(
            domains = self.config.domains.join(", "),
            directory = self.config.directory_url,
            %error,
            failures,
            next_try_s = wait.as_secs(),
            "cannot order a certificate{kept}: {}", error.help()
        );
        if let Err(error) = self.cache.store_retry(retry) {
            error!(%error, "cannot note the time of the next order: {}", error.help());
        }
        wait.min(RETRY_PAUSE)
    }
}
