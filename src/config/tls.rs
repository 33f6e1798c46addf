//! `[tls]`: certificates for clients, and what they must have.

pub mod acme;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::reader::SetValue;
use crate::config::table::ConfigTable;
use crate::config::tls::acme::AcmeConfig;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificates in files. The first is for clients that name no server, or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    pub min_version: TlsVersion,
    /// The CAs of which each client needs a certificate. `None`: clients need none.
    pub client_ca_file: Option<PathBuf>,
    /// For how long browsers use TLS only; `None`: they are not told.
    pub hsts: Option<Duration>,
    /// How often the files are checked for changes.
    pub poll: Duration,
    /// Certificates that are ordered automatically.
    pub acme: Option<AcmeConfig>,
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The table that names them: `tls`, or `tls.certificate[0]`.
    pub section: String,
    /// The certificate and those between it and the CA, in PEM.
    pub cert_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
}

/// The oldest version of TLS that clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            min_version: TlsVersion::V1_2,
            client_ca_file: None,
            hsts: None,
            poll: Duration::from_mins(1),
            acme: None,
        }
    }
}

impl TlsConfig {
    /// Whether listeners use TLS, unless they are excluded.
    pub fn is_on(&self) -> bool {
        !self.certificates.is_empty() || self.acme.is_some()
    }

    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        let default = Self::default();
        let first = certificate(table, "tls");
        let others = table.tables("certificate", |table| {
            let help = |what: &str| format!("name the file with the {what}, in PEM");
            table.required("cert_file", &help("certificate chain"), |_| Ok(()));
            table.required("key_file", &help("private key"), |_| Ok(()));
            certificate(table, "")
        });
        let others = others.into_iter().flatten();
        let others = others.map(|(section, files)| CertificateFiles { section, ..files });
        Self {
            certificates: first.into_iter().chain(others).collect(),
            min_version: table.choice(
                "min_version",
                default.min_version,
                &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)],
            ),
            client_ca_file: table.readable_file("client_ca_file").map(|file| file.value.into()),
            hsts: table.duration_or_none("hsts_s", 0..=315_360_000),
            poll: table.duration("poll_s", default.poll, 1..=86_400),
            acme: table.section("acme", AcmeConfig::read),
        }
    }
}

/// The files of a certificate, if both are named.
fn certificate(table: &ConfigTable<'_>, section: &str) -> Option<CertificateFiles> {
    // In a list, a missing key is an error already.
    let is_alone_wrong = !section.is_empty();
    let (cert_file, key_file) = (table.readable_file("cert_file"), table.secret_file("key_file"));
    let alone = |key: &str, missing: &str, what: &str| {
        let help = format!("set `{missing}` to the file with the {what}");
        table.error(key, format!("there is no `{missing}`"), help);
    };
    match (&cert_file, &key_file) {
        (Some(_), None) if is_alone_wrong => {
            alone("cert_file", "key_file", "private key of this certificate");
        }
        (None, Some(_)) if is_alone_wrong => alone("key_file", "cert_file", "certificate of this key"),
        _ => {}
    }
    let path = |file: SetValue<String>| file.value.into();
    Some(CertificateFiles {
        section: section.to_owned(),
        cert_file: path(cert_file?),
        key_file: path(key_file?),
    })
}
