//! Reads the header `Authorization` and the bearer item of the subprotocols.

use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::header;

use crate::auth::credential;
use crate::auth::credential::CredentialError;
use crate::auth::credential::Credentials;
use crate::http::problem::Problem;

/// The value of the header `Authorization`. RFC 6750 §2: a request has only one credential, so it may occur only once.
pub fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = values.next().map(header::HeaderValue::to_str);
    if values.next().is_some() {
        let detail = "the header `Authorization` occurs twice: send one credential";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail));
    }
    authorization.transpose().map_err(|_| unreadable("Authorization"))
}

/// The credential and the offered subprotocols in the headers of a request. `spoken` are the endpoint's own
/// subprotocols, for error messages.
pub fn credentials<'h>(
    authorization: Option<&str>,
    protocols: impl Iterator<Item = &'h str>,
    spoken: &[&str],
) -> Result<Credentials, Problem> {
    credential::from_handshake(authorization, protocols).map_err(|error| {
        let mut detail = error.to_string();
        if let (CredentialError::OnlyBearerItem, Some(name)) = (error, spoken.first()) {
            detail += &format!(": \"{name}\"");
        }
        Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail)
    })
}

/// The error for a header with characters that are not allowed in it.
pub fn unreadable(name: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad_header",
        format!("the header `{name}` has characters that are not allowed there: use visible ASCII"),
    )
}
