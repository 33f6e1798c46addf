//! A CA of one test, and certificates that it issues, in a folder that is removed at the end.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use tidegate::config::tls::CertificateFiles;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// A folder with a CA.
pub(crate) struct CertificateFolder {
    folder: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl CertificateFolder {
    /// `name` is the folder's, which each test has for itself.
    pub(crate) fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("tidegate-certificates-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn ca_der(&self) -> CertificateDer<'static> {
        self.ca.der().clone()
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Writes a certificate for these names and its key, and replaces those of the same file name.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> CertificateFiles {
        self.issue_for(file, names, Duration::from_hours(24 * 30))
    }

    /// The same, which expires after this time.
    pub(crate) fn issue_for(&self, file: &str, names: &[&str], valid_for: Duration) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = (SystemTime::now() - Duration::from_hours(24)).into();
        params.not_after = (SystemTime::now() + valid_for).into();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let files = CertificateFiles {
            section: "tls".to_owned(),
            cert_file: self.folder.join(format!("{file}.pem")),
            key_file: self.folder.join(format!("{file}.key")),
        };
        std::fs::write(&files.cert_file, certificate.pem()).unwrap();
        std::fs::write(&files.key_file, key.serialize_pem()).unwrap();
        files
    }
}

impl Drop for CertificateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
