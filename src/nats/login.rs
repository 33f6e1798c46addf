//! Login: as whom a connection comes to a server, said in its `CONNECT`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::json;

use crate::config::nats::login::NatsLogin;
use crate::nats::error::NatsError;

/// What a login shows to a server; all of it `None` where none is configured.
#[derive(Default)]
pub(super) struct Proof {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) jwt: Option<String>,
    /// The public key.
    pub(super) nkey: Option<String>,
    /// Of what the server drew.
    pub(super) signature: Option<Vec<u8>>,
}

/// What to show to a server that drew this nonce. Files are read each time, so that new credentials take the place of
/// old ones without a restart.
pub(super) fn proof(login: &NatsLogin, nonce: &[u8]) -> Result<Proof, NatsError> {
    Ok(match login {
        NatsLogin::None => Proof::default(),
        NatsLogin::Password { user, password } => Proof {
            user: Some(user.clone()),
            password: Some(password.expose().to_owned()),
            ..Proof::default()
        },
        NatsLogin::Token(token) => Proof { token: Some(token.expose().to_owned()), ..Proof::default() },
        NatsLogin::NkeyFile(file) => {
            let seed = read(file)?;
            let key = key(file, seed.trim())?;
            let signature = Some(signature(file, &key, nonce)?);
            Proof { nkey: Some(key.public_key()), signature, ..Proof::default() }
        }
        NatsLogin::CredsFile(file) => {
            let credentials = read(file)?;
            let mut sections = sections(&credentials);
            let (Some(jwt), Some(seed)) = (sections.next(), sections.next()) else {
                return Err(wrong(
                    file,
                    "there is no JWT of a user with a seed behind it, as `nsc generate creds` writes them",
                ));
            };
            let signature = Some(signature(file, &key(file, seed)?, nonce)?);
            Proof { jwt: Some(jwt.to_owned()), signature, ..Proof::default() }
        }
    })
}

/// The `CONNECT` of a connection of this name; `nonce` is the server's.
pub(super) fn connect(login: &NatsLogin, name: &str, nonce: &str, tls: bool) -> Result<Vec<u8>, NatsError> {
    let mut options = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": tls,
        "name": name,
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "echo": true,
        "headers": true,
        "no_responders": true,
    });
    let Proof { user, password, token, jwt, nkey, signature } = proof(login, nonce.as_bytes())?;
    let signature = signature.map(|signature| URL_SAFE_NO_PAD.encode(signature));
    let shown = [
        ("user", user),
        ("pass", password),
        ("auth_token", token),
        ("jwt", jwt),
        ("nkey", nkey),
        ("sig", signature),
    ];
    for (name, value) in shown {
        if let Some(value) = value {
            options[name] = value.into();
        }
    }
    Ok(format!("CONNECT {options}\r\n").into_bytes())
}

fn read(file: &Path) -> Result<String, NatsError> {
    let unreadable = |source| NatsError::Credentials { file: file.display().to_string(), source };
    std::fs::read_to_string(file).map_err(unreadable)
}

fn key(file: &Path, seed: &str) -> Result<KeyPair, NatsError> {
    if seed.is_empty() {
        return Err(wrong(file, "there is nothing in it"));
    }
    if !seed.starts_with("SU") {
        return Err(wrong(file, "there is no seed of a user in it, which begins with SU"));
    }
    KeyPair::from_seed(seed).map_err(|error| wrong(file, &format!("its seed is broken: {error}")))
}

fn signature(file: &Path, key: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, NatsError> {
    key.sign(nonce).map_err(|error| wrong(file, &error.to_string()))
}

fn wrong(file: &Path, words: &str) -> NatsError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, words);
    NatsError::Credentials { file: file.display().to_string(), source }
}

/// What is between the lines of dashes of a credentials file, as `nsc` writes it: the JWT, then the seed.
fn sections(credentials: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = credentials.lines().map(str::trim).collect();
    let is_mark = |line: &str| line.starts_with("---") && line.ends_with("---");
    let found: Vec<_> = lines
        .windows(3)
        .filter(|lines| is_mark(lines[0]) && !lines[1].is_empty() && !is_mark(lines[1]) && is_mark(lines[2]))
        .map(|lines| lines[1])
        .collect();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::secret::Secret;

    fn options(login: &NatsLogin) -> Value {
        let line = connect(login, "tidegate/a/0", "nonce", false).unwrap();
        let line = String::from_utf8(line).unwrap();
        let json = line.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix("\r\n")).unwrap();
        assert!(!json.contains('\n'));
        serde_json::from_str(json).unwrap()
    }

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("tidegate-login-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn is_signed_by(key: &KeyPair, options: &Value) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(options["sig"].as_str().unwrap()).unwrap();
        key.verify(b"nonce", &signature).is_ok()
    }

    #[test]
    fn every_way_to_log_in_says_what_it_has() {
        let plain = options(&NatsLogin::None);
        assert_eq!((&plain["verbose"], &plain["headers"]), (&json!(false), &json!(true)));
        assert_eq!(
            (&plain["user"], &plain["nkey"], &plain["sig"]),
            (&json!(null), &json!(null), &json!(null))
        );
        let secret = Secret::new("s3\"cret");
        let user = options(&NatsLogin::Password { user: "ann".to_owned(), password: secret.clone() });
        assert_eq!((&user["user"], &user["pass"]), (&json!("ann"), &json!("s3\"cret")));
        assert_eq!(options(&NatsLogin::Token(secret))["auth_token"], "s3\"cret");
    }

    #[test]
    fn a_key_signs_what_the_server_drew() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let path = file("nkey", &format!("{seed}\n"));
        let said = options(&NatsLogin::NkeyFile(path.clone()));
        assert_eq!(said["nkey"], key.public_key());
        assert!(is_signed_by(&key, &said));
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.e30.c2ln\r\n------END NATS USER JWT------\r\n\r\n\
             ************************* IMPORTANT *************************\r\n\r\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\r\n\r\n"
        );
        std::fs::write(&path, text).unwrap();
        let said = options(&NatsLogin::CredsFile(path.clone()));
        assert_eq!((&said["jwt"], &said["nkey"]), (&json!("eyJ0.e30.c2ln"), &json!(null)));
        assert!(is_signed_by(&key, &said));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_has_no_key_is_named_and_not_shown() {
        let path = file("broken", "-----BEGIN-----\nSECRET\n-----END-----\n");
        for login in [NatsLogin::NkeyFile(path.clone()), NatsLogin::CredsFile(path.clone())] {
            let error = connect(&login, "a", "nonce", false).unwrap_err().to_string();
            assert!(error.contains("tidegate-login-") && !error.contains("SECRET"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(connect(&NatsLogin::NkeyFile(path), "a", "nonce", false).is_err());
    }
}
