//! `ApiError`: why JetStream has refused a request of its API.

use serde_json::Value;

/// The `error` of a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError {
    /// Its `err_code`, which names the reason for programs.
    pub(super) code: Option<u64>,
    /// Its `description`, for people.
    pub(super) reason: String,
}

impl ApiError {
    /// The error in a response, if it has one.
    pub(super) fn of(response: &Value) -> Option<Self> {
        let error = Some(&response["error"]).filter(|error| !error.is_null())?;
        let reason = error["description"].as_str().unwrap_or("it gives no reason").to_owned();
        Some(Self { code: error["err_code"].as_u64(), reason })
    }
}
