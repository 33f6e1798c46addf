//! `ApiError`: why JetStream has refused a request of its API.

use serde_json::Value;

/// The `error` of a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError {
    /// Its `err_code`, which names the reason for programs.
    pub(super) code: Option<u64>,
    /// Its `description`, for people.
    pub(super) reason: String,
    /// Whether the same request is refused again: its `code`, a status like those of HTTP, blames the request.
    pub(super) is_final: bool,
}

impl ApiError {
    /// The error in a response, if it has one.
    pub(super) fn of(response: &Value) -> Option<Self> {
        let error = Some(&response["error"]).filter(|error| !error.is_null())?;
        let reason = error["description"].as_str().unwrap_or("it gives no reason").to_owned();
        let is_final =
            error["code"].as_u64().is_some_and(|status| matches!(status, 400..=499) && status != 429);
        Some(Self { code: error["err_code"].as_u64(), reason, is_final })
    }
}
