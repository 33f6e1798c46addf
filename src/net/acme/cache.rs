//! `Cache`: the folder with the account key, the certificate and the time of the next try. Only the account of Tidegate
//! may read it. A lock keeps two nodes from ordering at the same time.

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::digest;
use instant_acme::AccountCredentials;
use rustix::fs::FlockOperation;
use rustix::fs::flock;
use rustix::io::Errno;
use tracing::warn;

use crate::config::tls::acme::AcmeConfig;
use crate::net::acme::error::AcmeError;
use crate::net::acme::schedule::Retry;
use crate::net::tls::certificate::Certificate;
use crate::net::tls::certificate::CertificateError;
use crate::net::tls::certificate::read_file;
use crate::net::tls::challenges::Challenges;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The files of one authority and one list of names.
pub(super) struct Cache {
    /// Each authority has its own account.
    account: PathBuf,
    /// The key and the chain in PEM.
    certificate: PathBuf,
    retry: PathBuf,
    lock: PathBuf,
}

/// The right to order. It ends with this value, or with the process.
pub(super) struct OrderLock(#[expect(dead_code, reason = "closing the file ends the lock")] File);

impl Cache {
    /// Makes the folder if there is none.
    pub(super) fn open(config: &AcmeConfig) -> Result<Self, AcmeError> {
        let folder = config.cache_dir.as_path();
        let in_folder = |source| AcmeError::Cache { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(in_folder)?;
        let mode = std::fs::metadata(folder).map_err(in_folder)?.permissions().mode();
        if mode & 0o077 != 0 {
            let folder = folder.display();
            warn!(
                %folder,
                mode = format!("{:04o}", mode & 0o7777),
                "other users of this machine can look into tls.acme.cache_dir; restrict it with chmod 700"
            );
        }
        let authority = name_of(&[config.directory_url.as_str()]);
        let mut parts = vec![config.directory_url.as_str()];
        let mut domains: Vec<&str> = config.domains.iter().map(String::as_str).collect();
        domains.sort_unstable();
        parts.extend(domains);
        let order = name_of(&parts);
        Ok(Self {
            account: folder.join(format!("account-{authority}.json")),
            certificate: folder.join(format!("certificate-{order}.pem")),
            retry: folder.join(format!("retry-{order}.txt")),
            lock: folder.join(format!("order-{authority}.lock")),
        })
    }

    pub(super) fn account(&self) -> Result<Option<AccountCredentials>, AcmeError> {
        let path = self.account.clone();
        match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AcmeError::Cache { path, source }),
            Ok(json) => match serde_json::from_slice(&json) {
                Ok(account) => Ok(Some(account)),
                Err(_) => Err(AcmeError::CachedAccount { path }),
            },
        }
    }

    pub(super) fn store_account(&self, account: &AccountCredentials) -> Result<(), AcmeError> {
        let json = serde_json::to_vec(account).map_err(|error| AcmeError::Key(error.to_string()))?;
        store(&self.account, &json)
    }

    /// The last certificate that was issued; `None` if there is none.
    pub(super) fn certificate(&self) -> Result<Option<Certificate>, AcmeError> {
        let pem = read_file(&self.certificate);
        match pem.and_then(|pem| Certificate::from_pem(&pem, &pem)) {
            Ok(certificate) => Ok(Some(certificate)),
            Err(CertificateError::Read(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AcmeError::CachedCertificate { path: self.certificate.clone(), source }),
        }
    }

    /// Stores a new certificate, the key and the chain in PEM. The errors before it are forgotten.
    pub(super) fn store_certificate(&self, pem: &str) -> Result<(), AcmeError> {
        // Do not store what cannot be used.
        Certificate::from_pem(pem.as_bytes(), pem.as_bytes())
            .map_err(|source| AcmeError::CachedCertificate { path: self.certificate.clone(), source })?;
        store(&self.certificate, pem.as_bytes())?;
        match std::fs::remove_file(&self.retry) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(AcmeError::Cache { path: self.retry.clone(), source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Stores the certificate for the check of a name, where all nodes find it.
    pub(super) fn store_challenge(file: &Path, pem: &str) -> Result<(), AcmeError> {
        store(file, pem.as_bytes())
    }

    /// Removes the certificates for checks.
    pub(super) fn remove_challenges(config: &AcmeConfig, challenges: &Challenges) {
        for file in config.domains.iter().filter_map(|domain| challenges.file(domain)) {
            // If it stays, it answers a check that no one makes.
            let _ = std::fs::remove_file(file);
        }
    }

    /// The errors in a row and the time of the next try. A file that cannot be read counts as no error.
    pub(super) fn retry(&self) -> Retry {
        let read = || {
            let text = std::fs::read_to_string(&self.retry).ok()?;
            let (failures, at) = text.trim().split_once(' ')?;
            Some(Retry { failures: failures.parse().ok()?, at: at.parse().ok()? })
        };
        read().unwrap_or_default()
    }

    pub(super) fn store_retry(&self, retry: Retry) -> Result<(), AcmeError> {
        store(&self.retry, format!("{} {}\n", retry.failures, retry.at).as_bytes())
    }

    /// The right to order; `None` while another node has it.
    pub(super) fn lock(&self) -> Result<Option<OrderLock>, AcmeError> {
        let failed = |source| AcmeError::Cache { path: self.lock.clone(), source };
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&self.lock);
        let file = file.map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(OrderLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Replaces a file as a whole, so that no node reads a part of it.
fn store(path: &Path, contents: &[u8]) -> Result<(), AcmeError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> io::Result<()> {
        // The mode is that of a new file.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| AcmeError::Cache { path: path.to_owned(), source })
}

/// A short name for some texts, which has only letters and digits.
fn name_of(texts: &[&str]) -> String {
    let digest = digest::digest(&digest::SHA256, texts.join("\n").as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, domains: &[&str]) -> AcmeConfig {
        AcmeConfig {
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            contact: Vec::new(),
            cache_dir: std::env::temp_dir().join(format!("tidegate-acme-{name}-{}", std::process::id())),
            directory_url: "https://127.0.0.1/dir".to_owned(),
            directory_ca_file: None,
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn tls_02_only_the_account_of_tidegate_may_read_the_cache() {
        let config = config("modes", &["a.example"]);
        let cache = Cache::open(&config).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let made =
            rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pem = format!("{}{}", key.serialize_pem(), made.pem());
        assert!(cache.certificate().unwrap().is_none());
        cache.store_retry(Retry { failures: 3, at: 7 }).unwrap();
        assert_eq!(cache.retry(), Retry { failures: 3, at: 7 });
        // Over a file that everyone may read, and over the rest of an interrupted write.
        std::fs::write(&cache.certificate, "garbage").unwrap();
        assert!(cache.certificate().is_err());
        std::fs::write(cache.certificate.with_extension("pem.new"), "garbage").unwrap();
        cache.store_certificate(&pem).unwrap();
        assert_eq!(cache.certificate().unwrap().unwrap().names, ["a.example"]);
        assert_eq!(cache.retry(), Retry::default());
        assert_eq!((mode(&config.cache_dir), mode(&cache.certificate)), (0o700, 0o600));
        assert!(cache.store_certificate(&made.pem()).is_err(), "there is no key");
        std::fs::remove_dir_all(&config.cache_dir).unwrap();
    }

    #[test]
    fn one_of_several_nodes_orders() {
        let config = config("lock", &["a.example"]);
        let (one, other) = (Cache::open(&config).unwrap(), Cache::open(&config).unwrap());
        let lock = one.lock().unwrap().unwrap();
        assert!(other.lock().unwrap().is_none());
        drop(lock);
        assert!(other.lock().unwrap().is_some());
        std::fs::remove_dir_all(&config.cache_dir).unwrap();
    }

    #[test]
    fn other_names_have_another_certificate_and_the_same_account() {
        let one = Cache::open(&config("names", &["a.example", "b.example"])).unwrap();
        let same = Cache::open(&config("names", &["b.example", "a.example"])).unwrap();
        let other = Cache::open(&config("names", &["a.example"])).unwrap();
        assert_eq!((&one.certificate, &one.account), (&same.certificate, &other.account));
        assert_ne!(one.certificate, other.certificate);
        std::fs::remove_dir_all(one.account.parent().unwrap()).unwrap();
    }
}
