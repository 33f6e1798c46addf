//! `TlsReloader`: replaces certificates while the node runs: after a change of their files, on SIGHUP, and when a
//! certificate authority has issued one. If a file cannot be used, its old certificate stays.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::config::tls::CertificateFiles;
use crate::config::tls::TlsConfig;
use crate::net::tls::certificate::Certificate;
use crate::net::tls::certificate::date;
use crate::net::tls::expiry::Expiry;
use crate::net::tls::loaded;
use crate::net::tls::loaded::LoadedTls;
use crate::net::tls::loaded::TlsError;
use crate::net::tls::settings::TlsSettings;

/// How often the log says that a certificate expires soon.
const EXPIRY_INTERVAL: Duration = Duration::from_hours(24);

/// Keeps the TLS settings of a node up to date.
#[derive(Debug)]
pub struct TlsReloader {
    config: TlsConfig,
    loaded: LoadedTls,
    settings: TlsSettings,
    /// The files as they were when they were read last.
    stamps: Vec<FileStamp>,
}

/// What shows that a file has changed: its time, length and number. `None` if it cannot be seen.
type FileStamp = Option<(i64, i64, u64, u64)>;

impl TlsReloader {
    /// Reads all files.
    pub fn new(config: &TlsConfig) -> Result<Self, TlsError> {
        let stamps = stamps(config);
        let loaded = LoadedTls::read(config)?;
        let settings = TlsSettings::new(loaded.server_config(config)?);
        Ok(Self { config: config.clone(), loaded, settings, stamps })
    }

    /// The settings of the listeners.
    pub fn settings(&self) -> TlsSettings {
        self.settings.clone()
    }

    /// Keeps the settings up to date, for as long as this future is polled. `request` asks for a reload; `issued` has the
    /// certificates from an authority.
    pub async fn run(mut self, request: Arc<Notify>, mut issued: mpsc::Receiver<Arc<Certificate>>) {
        let start = Instant::now();
        let (mut next_poll, mut next_warning) = (start + self.config.poll, start);
        loop {
            tokio::select! {
                () = request.notified() => self.reload(),
                Some(certificate) = issued.recv() => {
                    self.loaded.issued = Some(certificate);
                    self.publish();
                }
                () = sleep_until(next_poll) => {
                    next_poll = Instant::now() + self.config.poll;
                    if stamps(&self.config) != self.stamps {
                        self.reload();
                    }
                }
                () = sleep_until(next_warning) => {
                    next_warning = Instant::now() + EXPIRY_INTERVAL;
                    self.warn_of_expiry(SystemTime::now());
                }
            }
        }
    }

    /// Reads all files again, and uses those that have changed and can be used.
    fn reload(&mut self) {
        // Before the files are read: a change after this is found by the next poll.
        self.stamps = stamps(&self.config);
        let mut has_changed = false;
        for (files, current) in self.config.certificates.iter().zip(&mut self.loaded.certificates) {
            if let Some(new) = changed_certificate(files, current, SystemTime::now()) {
                info!(
                    file = %files.cert_file.display(),
                    name = new.name(),
                    expires = date(new.validity.not_after),
                    "certificate replaced"
                );
                *current = Arc::new(new);
                has_changed = true;
            }
        }
        match loaded::read_client_ca(&self.config) {
            Ok(new) if new.is_same(&self.loaded.client_ca) => {}
            Ok(new) => match self.loaded.set_client_ca(new) {
                Ok(()) => {
                    info!("CAs of clients replaced");
                    has_changed = true;
                }
                Err(error) => error!(%error, "cannot replace the CAs of clients, so the old ones stay"),
            },
            Err(error) => {
                error!(
                    key = error.key,
                    error = error.message(),
                    "the new CAs of clients cannot be used, so the old ones stay: {}",
                    error.help()
                );
            }
        }
        if has_changed {
            self.publish();
        }
    }

    fn publish(&self) {
        match self.loaded.server_config(&self.config) {
            Ok(config) => self.settings.replace(config),
            Err(error) => error!(%error, "cannot use the new certificates, so the old ones stay"),
        }
    }

    fn warn_of_expiry(&self, now: SystemTime) {
        let files = self.config.certificates.iter().map(|files| files.cert_file.display().to_string());
        let issued = self.config.acme.iter().map(|acme| acme.cache_dir.display().to_string());
        let of_files = self.loaded.certificates.iter().zip(files);
        for (certificate, file) in of_files.chain(self.loaded.issued.iter().zip(issued)) {
            let expires = date(certificate.validity.not_after);
            match Expiry::of(certificate.validity.not_after, now) {
                Expiry::Distant => {}
                Expiry::Soon => {
                    warn!(file, name = certificate.name(), expires, "a certificate expires soon: renew it")
                }
                Expiry::VerySoon => {
                    error!(
                        file,
                        name = certificate.name(),
                        expires,
                        "a certificate expires within three days or has expired: renew it"
                    );
                }
            }
        }
    }
}

/// The certificate in these files, if it is another one than `current` and can be used.
fn changed_certificate(
    files: &CertificateFiles,
    current: &Certificate,
    now: SystemTime,
) -> Option<Certificate> {
    let new = match loaded::read_certificate(files) {
        Ok(new) => new,
        Err(error) => {
            error!(
                key = error.key,
                error = error.message(),
                "a new certificate cannot be used, so the old one stays: {}",
                error.help()
            );
            return None;
        }
    };
    if new.is_same(current) {
        return None;
    }
    if let Err(reason) = new.check_validity(now)
        && current.check_validity(now).is_ok()
    {
        let file = files.cert_file.display();
        error!(%file, error = format!("it {reason}"), "a new certificate cannot be used, so the old one stays: {}", reason.help());
        return None;
    }
    Some(new)
}

fn stamps(config: &TlsConfig) -> Vec<FileStamp> {
    let of_certificates = config.certificates.iter().flat_map(|files| [&files.cert_file, &files.key_file]);
    of_certificates.chain(&config.client_ca_file).map(PathBuf::as_path).map(stamp).collect()
}

fn stamp(path: &Path) -> FileStamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}
