//! Checks the files of the TLS configuration before the node starts.

use std::time::SystemTime;

use tidegate_document::diagnostic::Diagnostic;

use crate::config::tls::TlsConfig;
use crate::net::tls::certificate::date;
use crate::net::tls::expiry::Expiry;
use crate::net::tls::loaded;
use crate::net::tls::loaded::TlsFileError;

/// Returns what is wrong with the files.
pub fn inspect(config: &TlsConfig) -> Vec<Diagnostic> {
    inspect_at(config, SystemTime::now())
}

fn inspect_at(config: &TlsConfig, now: SystemTime) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for files in &config.certificates {
        match loaded::read_certificate(files) {
            Err(wrong) => found.push(error(&wrong)),
            Ok(certificate) => {
                let key = format!("{}.cert_file", files.section);
                let file = format!("\"{}\"", files.cert_file.display());
                match certificate.check_validity(now) {
                    Err(wrong) => {
                        let message = format!("{file} {wrong}, so clients refuse it; {}", wrong.help());
                        found.push(Diagnostic::warning(key, message));
                    }
                    Ok(()) if Expiry::of(certificate.validity.not_after, now) != Expiry::Distant => {
                        let day = date(certificate.validity.not_after);
                        let message = format!("{file} expires on {day}; renew it");
                        found.push(Diagnostic::warning(key, message));
                    }
                    Ok(()) => {}
                }
            }
        }
    }
    if let Err(wrong) = loaded::read_client_ca(config) {
        found.push(error(&wrong));
    }
    if let Err(wrong) = loaded::check_directory_ca(config) {
        found.push(error(&wrong));
    }
    found
}

fn error(wrong: &TlsFileError) -> Diagnostic {
    Diagnostic::error(&wrong.key, wrong.message(), wrong.help())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use tidegate_document::diagnostic::Severity;

    use super::*;
    use crate::config::tls::CertificateFiles;

    const DAY: Duration = Duration::from_hours(24);

    /// Files in a folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-tls-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// A certificate for one name in PEM, valid from 2026-01-01 to 2027-01-01, and its key.
    fn made() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn config(folder: &Folder, chain: &str, key: &str) -> TlsConfig {
        let files = CertificateFiles {
            section: "tls.certificate[0]".to_owned(),
            cert_file: folder.write("chain.pem", chain),
            key_file: folder.write("key.pem", key),
        };
        TlsConfig { certificates: vec![files], ..TlsConfig::default() }
    }

    #[test]
    fn each_wrong_file_is_an_error_at_its_key_with_help() {
        let folder = Folder::new("wrong");
        let ((chain, key), (other, _)) = (made(), made());
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        for (chain, key, at, words, help) in [
            ("", &*key, "cert_file", "is empty", "PEM"),
            (&chain, "", "key_file", "is empty", "BEGIN PRIVATE KEY"),
            (&chain, &encrypted, "key_file", "encrypted", "openssl pkey"),
            (&other, &key, "cert_file", "does not belong to the private key", "together"),
            (
                &format!("{other}{chain}"),
                &key,
                "cert_file",
                "begins with another certificate",
                "own certificate first",
            ),
            (&key, &key, "cert_file", "no certificate", "BEGIN CERTIFICATE"),
            (&chain, &chain, "key_file", "no private key", "BEGIN PRIVATE KEY"),
        ] {
            let found = inspect(&config(&folder, chain, key));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].key, format!("tls.certificate[0].{at}"));
            assert_eq!(found[0].severity, Severity::Error);
            assert!(found[0].message.contains(words) && found[0].help.contains(help), "{found:?}");
        }
        let client_ca_file = Some(folder.write("ca.pem", &key));
        let found = inspect(&TlsConfig { client_ca_file, ..config(&folder, &chain, &key) });
        let found = found.iter().find(|found| found.key == "tls.client_ca_file").unwrap();
        assert!(found.message.ends_with("ca.pem\" has no certificate in PEM"), "{found:?}");
    }

    #[test]
    fn a_certificate_that_has_expired_or_soon_will_is_a_warning() {
        let folder = Folder::new("old");
        let (chain, key) = made();
        let config = config(&folder, &chain, &key);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600);
        for (now, words) in [
            (end + DAY, Some("expired on 2027-01-01, so clients refuse it")),
            (end - DAY, Some("expires on 2027-01-01")),
            (end - 13 * DAY, Some("expires on 2027-01-01")),
            (end - 15 * DAY, None),
            (end - 366 * DAY, Some("is not valid before 2026-01-01")),
        ] {
            let found = inspect_at(&config, now);
            assert_eq!(found.len(), usize::from(words.is_some()), "{found:?}");
            if let Some(words) = words {
                assert_eq!(found[0].severity, Severity::Warning);
                assert!(found[0].message.contains(words), "{found:?}");
            }
        }
    }
}
