//! The login of a connection, as fields of its `CONNECT`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::json;

use crate::config::nats::login::NatsLogin;
use crate::nats::error::NatsError;

/// The authentication fields of `CONNECT`; all `None` without a login.
#[derive(Default)]
pub(super) struct AuthFields {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) jwt: Option<String>,
    pub(super) nkey: Option<String>,
    /// The signature of the server's nonce.
    pub(super) signature: Option<Vec<u8>>,
}

/// The fields for a server with this nonce. Files are read each time, so that changed credentials need no restart.
pub(super) fn auth_fields(login: &NatsLogin, nonce: &[u8]) -> Result<AuthFields, NatsError> {
    Ok(match login {
        NatsLogin::None => AuthFields::default(),
        NatsLogin::Password { user, password } => AuthFields {
            user: Some(user.clone()),
            password: Some(password.expose().to_owned()),
            ..AuthFields::default()
        },
        NatsLogin::Token(token) => {
            AuthFields { token: Some(token.expose().to_owned()), ..AuthFields::default() }
        }
        NatsLogin::NkeyFile(file) => {
            let seed = read(file)?;
            let key = key(file, seed.trim())?;
            let signature = Some(signature(file, &key, nonce)?);
            AuthFields { nkey: Some(key.public_key()), signature, ..AuthFields::default() }
        }
        NatsLogin::CredsFile(file) => {
            let credentials = read(file)?;
            let mut sections = sections(&credentials);
            let (Some(jwt), Some(seed)) = (sections.next(), sections.next()) else {
                return Err(invalid(
                    file,
                    "it must have a user JWT and then a seed, as `nsc generate creds` writes them",
                ));
            };
            let signature = Some(signature(file, &key(file, seed)?, nonce)?);
            AuthFields { jwt: Some(jwt.to_owned()), signature, ..AuthFields::default() }
        }
    })
}

/// The `CONNECT` command of a connection of this name. `nonce` is the server's.
pub(super) fn connect_command(
    login: &NatsLogin,
    name: &str,
    nonce: &str,
    tls: bool,
) -> Result<Vec<u8>, NatsError> {
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
    let AuthFields { user, password, token, jwt, nkey, signature } = auth_fields(login, nonce.as_bytes())?;
    let signature = signature.map(|signature| URL_SAFE_NO_PAD.encode(signature));
    let fields = [
        ("user", user),
        ("pass", password),
        ("auth_token", token),
        ("jwt", jwt),
        ("nkey", nkey),
        ("sig", signature),
    ];
    for (name, value) in fields {
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
        return Err(invalid(file, "it is empty"));
    }
    if !seed.starts_with("SU") {
        return Err(invalid(file, "it must have a user seed, which begins with SU"));
    }
    KeyPair::from_seed(seed).map_err(|error| invalid(file, &format!("its seed is invalid: {error}")))
}

fn signature(file: &Path, key: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, NatsError> {
    key.sign(nonce).map_err(|error| invalid(file, &error.to_string()))
}

fn invalid(file: &Path, reason: &str) -> NatsError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, reason);
    NatsError::Credentials { file: file.display().to_string(), source }
}

/// The sections between the dashed lines of a credentials file, as `nsc` writes it: the JWT, then the seed.
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
        let line = connect_command(login, "tidegate/a/0", "nonce", false).unwrap();
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
    fn every_login_sends_its_fields() {
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
    fn a_key_signs_the_nonce_of_the_server() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let path = file("nkey", &format!("{seed}\n"));
        let connect = options(&NatsLogin::NkeyFile(path.clone()));
        assert_eq!(connect["nkey"], key.public_key());
        assert!(is_signed_by(&key, &connect));
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.e30.c2ln\r\n------END NATS USER JWT------\r\n\r\n\
             ************************* IMPORTANT *************************\r\n\r\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\r\n\r\n"
        );
        std::fs::write(&path, text).unwrap();
        let connect = options(&NatsLogin::CredsFile(path.clone()));
        assert_eq!((&connect["jwt"], &connect["nkey"]), (&json!("eyJ0.e30.c2ln"), &json!(null)));
        assert!(is_signed_by(&key, &connect));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_invalid_key_file_is_named_but_its_content_is_not_shown() {
        let path = file("broken", "-----BEGIN-----\nSECRET\n-----END-----\n");
        for login in [NatsLogin::NkeyFile(path.clone()), NatsLogin::CredsFile(path.clone())] {
            let error = connect_command(&login, "a", "nonce", false).unwrap_err().to_string();
            assert!(error.contains("tidegate-login-") && !error.contains("SECRET"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(connect_command(&NatsLogin::NkeyFile(path), "a", "nonce", false).is_err());
    }
}
