//! Files: whether those that the configuration names hold what a connection needs, before there is one.

use tidegate_document::diagnostic::Diagnostic;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::dial;
use crate::nats::dial::DialError;
use crate::nats::error::NatsError;
use crate::nats::login;

/// What is wrong with them.
pub fn inspect(config: &NatsConfig) -> Vec<Diagnostic> {
    let key = match &config.login {
        NatsLogin::CredsFile(_) => Some("nats.creds_file"),
        NatsLogin::NkeyFile(_) => Some("nats.nkey_file"),
        NatsLogin::None | NatsLogin::Password { .. } | NatsLogin::Token(_) => None,
    };
    let login = key.and_then(|key| {
        let error = login::connect(&config.login, "tidegate", "nonce", false).err()?;
        let cure = if key == "nats.creds_file" {
            "name the file that `nsc generate creds` wrote, whole"
        } else {
            "name a file with the seed alone, SU…, as `nk -gen user` prints it"
        };
        Some(Diagnostic::error(key, words(&error), cure))
    });
    let authorities = config.ca_file.as_deref().and_then(|file| {
        let error = dial::tls(Some(file)).err()?;
        let problem = if let DialError::Certificates { file, words } = error {
            format!("\"{file}\": {words}")
        } else {
            error.to_string()
        };
        let cure = "name a file with certificates in PEM: -----BEGIN CERTIFICATE----- and so on";
        Some(Diagnostic::error("nats.ca_file", problem, cure))
    });
    login.into_iter().chain(authorities).collect()
}

fn words(error: &NatsError) -> String {
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

    fn said(config: &NatsConfig) -> Vec<(String, String)> {
        inspect(config).into_iter().map(|mistake| (mistake.key, mistake.message)).collect()
    }

    #[test]
    fn garbage_in_a_file_is_found_before_there_is_a_connection() {
        let seed = KeyPair::new_user().seed().unwrap();
        let account = KeyPair::new_account().seed().unwrap();
        let jwt_alone = "-----BEGIN NATS USER JWT-----\neyJ0.e30.c2ln\n------END NATS USER JWT------\n";
        let with_login = |login| NatsConfig { login, ..NatsConfig::default() };
        for (text, problem) in [
            ("", "nothing in it"),
            ("garbage", "begins with SU"),
            (&account, "begins with SU"),
            (&seed[..20], "its seed is broken"),
        ] {
            let path = file("nkey", text);
            let said = said(&with_login(NatsLogin::NkeyFile(path)));
            assert_eq!(said.len(), 1, "{text}");
            assert_eq!(said[0].0, "nats.nkey_file");
            assert!(said[0].1.contains(problem) && said[0].1.contains("tidegate-files-"), "{said:?}");
            assert!(text.is_empty() || !said[0].1.contains(text), "{said:?}");
        }
        for text in ["", "garbage", jwt_alone] {
            let said = said(&with_login(NatsLogin::CredsFile(file("creds", text))));
            assert_eq!((said.len(), said[0].0.as_str()), (1, "nats.creds_file"), "{text}");
        }
        for text in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let config = NatsConfig { ca_file: Some(file("ca", text)), ..NatsConfig::default() };
            let said = said(&config);
            assert_eq!((said.len(), said[0].0.as_str()), (1, "nats.ca_file"), "{text}");
        }
        assert_eq!(said(&with_login(NatsLogin::NkeyFile(file("nkey", &format!("{seed}\n"))))), []);
        assert_eq!(said(&NatsConfig::default()), []);
        for name in ["nkey", "creds", "ca"] {
            std::fs::remove_file(file(name, "")).unwrap();
        }
    }
}
