//! `UnverifiedToken`: what a token says, whether it is valid or not. Only for people who look into a token.

use serde_json::Map;
use serde_json::Value;

use crate::auth::claims::parse_object;
use crate::auth::jwt;

/// The header and the claims of a token, without its signature.
#[derive(Clone, PartialEq, Debug)]
pub struct UnverifiedToken {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
}

impl UnverifiedToken {
    /// `None` if the text is not a token of three segments with JSON in the first two.
    pub fn read(token: &str) -> Option<Self> {
        let mut segments = token.split('.');
        let (header, claims) = (segments.next()?, segments.next()?);
        let read = |segment| parse_object(&jwt::decode(segment).ok()?).ok();
        Some(Self { header: read(header)?, claims: read(claims)? })
    }
}
