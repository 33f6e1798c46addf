//! Checks the credentials and certificate files of the NATS configuration before the node connects.

use tidegate_document::diagnostic::Diagnostic;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::error::NatsError;
use crate::nats::login;
use crate::net::client_tls::ClientTlsError;
use crate::net::client_tls::client_config;

/// Returns what is wrong with the files.
pub fn inspect(config: &NatsConfig) -> Vec<Diagnostic> {
    let key = match &config.login {
        NatsLogin::CredsFile(_) => Some("nats.creds_file"),
        NatsLogin::NkeyFile(_) => Some("nats.nkey_file"),
        NatsLogin::None | NatsLogin::Password { .. } | NatsLogin::Token(_) => None,
    };
    let login = key.and_then(|key| {
        let error = login::connect_command(&config.login, "tidegate", "nonce", false).err()?;
        let help = if key == "nats.creds_file" {
            "use the complete file that `nsc generate creds` wrote"
        } else {
            "use a file that contains only the seed, SU…, as `nk -gen user` prints it"
        };
        Some(Diagnostic::error(key, message(&error), help))
    });
    let authorities = config.ca_file.as_deref().and_then(|file| {
        let error = client_config(Some(file)).err()?;
        let message = if let ClientTlsError::Certificates { file, reason } = error {
            format!("\"{file}\": {reason}")
        } else {
            error.to_string()
        };
        let help = "use a file with PEM certificates, which begin with -----BEGIN CERTIFICATE-----";
        Some(Diagnostic::error("nats.ca_file", message, help))
    });
    login.into_iter().chain(authorities).collect()
}

fn message(error: &NatsError) -> String {
    if let NatsError::Credentials { file, source } = error {
        format!("\"{file}\": {source}")
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nkeys::KeyPair;

    use super::*;

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tidegate-files-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn diagnostics(config: &NatsConfig) -> Vec<(String, String)> {
        inspect(config).into_iter().map(|diagnostic| (diagnostic.key, diagnostic.message)).collect()
    }

    #[test]
    fn garbage_in_a_file_is_found_before_there_is_a_connection() {
        let seed = KeyPair::new_user().seed().unwrap();
        let account = KeyPair::new_account().seed().unwrap();
        let jwt_alone = "-----BEGIN NATS USER JWT-----\neyJ0.e30.c2ln\n------END NATS USER JWT------\n";
        let with_login = |login| NatsConfig { login, ..NatsConfig::default() };
        for (text, problem) in [
            ("", "it is empty"),
            ("garbage", "begins with SU"),
            (&account, "begins with SU"),
            (&seed[..20], "its seed is invalid"),
        ] {
            let path = file("nkey", text);
            let found = diagnostics(&with_login(NatsLogin::NkeyFile(path)));
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].0, "nats.nkey_file");
            assert!(found[0].1.contains(problem) && found[0].1.contains("tidegate-files-"), "{found:?}");
            assert!(text.is_empty() || !found[0].1.contains(text), "{found:?}");
        }
        for text in ["", "garbage", jwt_alone] {
            let found = diagnostics(&with_login(NatsLogin::CredsFile(file("creds", text))));
            assert_eq!((found.len(), found[0].0.as_str()), (1, "nats.creds_file"), "{text}");
        }
        for text in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let config = NatsConfig { ca_file: Some(file("ca", text)), ..NatsConfig::default() };
            let found = diagnostics(&config);
            assert_eq!((found.len(), found[0].0.as_str()), (1, "nats.ca_file"), "{text}");
        }
        assert_eq!(diagnostics(&with_login(NatsLogin::NkeyFile(file("nkey", &format!("{seed}\n"))))), []);
        assert_eq!(diagnostics(&NatsConfig::default()), []);
        for name in ["nkey", "creds", "ca"] {
            std::fs::remove_file(file(name, "")).unwrap();
        }
    }
}
