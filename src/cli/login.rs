//! Logins of NATS users on the command line.

use std::path::PathBuf;

use crate::config::nats::login::NatsLogin;
use crate::config::secret::Secret;

/// Parses `USER:PASSWORD`, or `@FILE` for a file that contains this, so that no list of processes shows the password.
pub(super) fn password(text: &str) -> Result<NatsLogin, String> {
    let from_file;
    let login = match text.strip_prefix('@') {
        None => text,
        Some(file) => {
            from_file = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            from_file.trim_end_matches(['\r', '\n'])
        }
    };
    match login.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => {
            Ok(NatsLogin::Password { user: user.to_owned(), password: Secret::new(password) })
        }
        Some(_) | None => Err("write USER:PASSWORD, or @FILE for a file that contains it".to_owned()),
    }
}

/// A credentials file of `nsc`.
pub(super) fn creds(file: &str) -> Result<NatsLogin, String> {
    match std::fs::metadata(file) {
        Ok(found) if found.is_file() => Ok(NatsLogin::CredsFile(PathBuf::from(file))),
        Ok(_) => Err("it is not a file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_may_be_in_a_file_and_is_never_shown() {
        let expected = NatsLogin::Password { user: "ann".to_owned(), password: Secret::new("a:b@c") };
        let file = std::env::temp_dir().join(format!("tidegate-user-{}", std::process::id()));
        std::fs::write(&file, "ann:a:b@c\n").unwrap();
        assert_eq!(password("ann:a:b@c"), Ok(expected.clone()));
        assert_eq!(password(&format!("@{}", file.display())), Ok(expected.clone()));
        assert!(!format!("{expected:?}").contains("a:b"));
        assert!(matches!(creds(file.to_str().unwrap()), Ok(NatsLogin::CredsFile(_))));
        std::fs::remove_file(&file).unwrap();
        for wrong in ["ann", ":pw", "ann:", "", "@/no/such/file"] {
            assert!(password(wrong).is_err(), "{wrong}");
        }
        assert!(creds("/no/such/file").is_err() && creds("/").is_err());
    }
}
