//! `[tls.acme]`: certificates that a certificate authority issues automatically.

use std::net::IpAddr;
use std::path::PathBuf;

use tidegate_document::diagnostic::ValueError;

use crate::config::table::ConfigTable;

/// The directories of Let's Encrypt.
const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// The most names in a certificate of Let's Encrypt.
const MAX_DOMAINS: usize = 100;
/// The longest DNS name, in bytes.
const MAX_DOMAIN_BYTES: usize = 253;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The names in the certificate, in lower case; at least one.
    pub domains: Vec<String>,
    /// Where the authority can reach the operator: `mailto:` URLs.
    pub contact: Vec<String>,
    /// The folder for the account key and for certificates.
    pub cache_dir: PathBuf,
    /// The URL of the authority's directory (RFC 8555 §7.1.1).
    pub directory_url: String,
    /// The CAs that verify the authority's own server. `None`: those that the system trusts.
    pub directory_ca_file: Option<PathBuf>,
}

impl AcmeConfig {
    /// `None` without domains.
    pub(super) fn read(table: &ConfigTable<'_>) -> Option<Self> {
        let domains = table.list("domains", domain).unwrap_or_default();
        let contact = table.list("contact", contact).unwrap_or_default();
        let cache_dir = table.non_empty("cache_dir");
        let staging = table.boolean("staging", false);
        let own_directory = table.optional("directory_url", directory).flatten();
        let directory_ca_file = table.readable_file("directory_ca_file").map(|file| file.value.into());
        let terms_agreed = table.boolean("terms_agreed", false);
        if domains.is_empty() {
            if terms_agreed {
                let message =
                    "tls.acme.domains is empty, so this has no effect: list the names of this server";
                table.warning("terms_agreed", message);
            }
            return None;
        }
        if cfg!(not(feature = "acme")) {
            let message = "this build of Tidegate cannot order certificates";
            table.error(
                "domains",
                message,
                "use a build with the feature `acme`, or tls.cert_file and tls.key_file",
            );
        }
        if domains.len() > MAX_DOMAINS {
            let message = format!("a certificate has at most {MAX_DOMAINS} names");
            table.error("domains", message, "list fewer names, or use a proxy for the others");
        }
        if !terms_agreed {
            let help = "read the terms of service of the certificate authority, and set tls.acme.terms_agreed = true";
            table.error("terms_agreed", "without your agreement, no certificate is ordered", help);
        }
        if cache_dir.is_none() {
            let help =
                "name a folder that is kept when the node is replaced, such as \"/var/lib/tidegate/acme\"";
            table.error("cache_dir", "there is no folder for the account key and the certificates", help);
        }
        if staging && own_directory.is_some() {
            let help = "remove one of them: `staging` chooses the test directory of Let's Encrypt";
            table.error("directory_url", "this and `staging` both choose a directory", help);
        }
        let default_directory = if staging { STAGING } else { PRODUCTION };
        Some(Self {
            domains,
            contact,
            cache_dir: cache_dir?.value.into(),
            directory_url: own_directory.unwrap_or_else(|| default_directory.to_owned()),
            directory_ca_file,
        })
    }
}

fn domain(text: &str) -> Result<String, ValueError> {
    let name = text.trim().to_ascii_lowercase();
    if name.starts_with("*.") {
        let help = "list the names one by one, or use a certificate of your own: a wildcard needs a DNS challenge, which \
                    Tidegate cannot answer";
        return Err(ValueError::new("is a wildcard", help));
    }
    let is_label = |label: &str| {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(is_legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= MAX_DOMAIN_BYTES && name.contains('.') && name.split('.').all(is_label);
    if is_name && name.parse::<IpAddr>().is_err() {
        return Ok(name);
    }
    let help =
        "write the DNS name of this server, such as \"live.example.com\", without scheme, port and path";
    Err(ValueError::new("is not a DNS name", help))
}

fn contact(text: &str) -> Result<String, ValueError> {
    let text = text.trim();
    let is_address = text.strip_prefix("mailto:").is_some_and(|mail| mail.contains('@'));
    let help = "write mailto: and an e-mail address, such as \"mailto:ops@example.com\"";
    if is_address { Ok(text.to_owned()) } else { Err(ValueError::new("is not a mailto: URL", help)) }
}

/// `None` for an empty text.
fn directory(text: &str) -> Result<Option<String>, ValueError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let help = "write the URL of the directory, such as \"https://acme.example.com/directory\"";
    if text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        Ok(Some(text.to_owned()))
    } else {
        Err(ValueError::new("is not an https:// URL", help))
    }
}
