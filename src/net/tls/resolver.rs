//! `CertificateResolver`: chooses the certificate for the name that a client asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_rustls::rustls::server::ClientHello;
use tokio_rustls::rustls::server::ResolvesServerCert;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::net::tls::certificate::Certificate;
use crate::net::tls::challenges::Challenges;

/// The certificates of a node, by name.
#[derive(Debug)]
pub(super) struct CertificateResolver {
    /// Names as they are, and wildcards with their `*.`; each with the first certificate that has it.
    by_name: BTreeMap<String, Arc<CertifiedKey>>,
    /// For clients that ask for no name, or for one that no certificate has.
    default: Option<Arc<CertifiedKey>>,
    /// For the checks of an authority.
    challenges: Option<Challenges>,
}

impl CertificateResolver {
    /// The first certificate is the default.
    pub(super) fn new<'c>(
        certificates: impl Iterator<Item = &'c Arc<Certificate>>,
        challenges: Option<Challenges>,
    ) -> Self {
        let (mut by_name, mut default) = (BTreeMap::new(), None);
        for certificate in certificates {
            default.get_or_insert_with(|| Arc::clone(&certificate.key));
            for name in &certificate.names {
                by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&certificate.key));
            }
        }
        Self { by_name, default, challenges }
    }

    /// The certificate for a name in any case. A wildcard is for one label (RFC 6125 §6.4.3).
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if Challenges::is_asked_by(&hello) {
            return self.challenges.as_ref()?.get(hello.server_name()?);
        }
        let named = hello.server_name().and_then(|name| self.find(name));
        named.or(self.default.as_ref()).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Arc<Certificate> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let certificate = Certificate::from_pem(made.pem().as_bytes(), key.serialize_pem().as_bytes());
        Arc::new(certificate.unwrap())
    }

    #[test]
    fn a_name_has_the_first_certificate_with_it_exact_names_before_wildcards() {
        let all = [certificate(&["a.example", "*.a.example"]), certificate(&["b.a.example", "a.example"])];
        let resolver = CertificateResolver::new(all.iter(), None);
        let found = |name: &str| {
            let key = resolver.find(name)?;
            all.iter().position(|certificate| Arc::ptr_eq(key, &certificate.key))
        };
        assert_eq!(found("a.example"), Some(0));
        assert_eq!(found("A.Example"), Some(0));
        assert_eq!(found("x.a.example"), Some(0));
        assert_eq!(found("b.a.example"), Some(1));
        for unknown in ["x.y.a.example", "example", "", ".", "b.example", "*.b.example"] {
            assert_eq!(found(unknown), None, "{unknown}");
        }
        assert!(Arc::ptr_eq(resolver.default.as_ref().unwrap(), &all[0].key));
    }
}
