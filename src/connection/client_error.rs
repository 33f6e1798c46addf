//! What a client learns of an error of NATS.

use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;

use crate::nats::error::NatsError;

/// The code for the client of an error of NATS.
pub fn error_code(error: &NatsError) -> ErrorCode {
    match error {
        NatsError::Disconnected
        | NatsError::Overloaded
        | NatsError::NoInbox
        | NatsError::ConnectionLost
        | NatsError::InvalidInboxPrefix
        | NatsError::StorageUnknown(_)
        | NatsError::StreamAway
        | NatsError::Credentials { .. } => ErrorCode::Unavailable,
        NatsError::Denied => ErrorCode::Forbidden,
        NatsError::NoResponders => ErrorCode::NoResponders,
        NatsError::Service(_) | NatsError::NotStored(_) | NatsError::NeverStored(_) => ErrorCode::Service,
        NatsError::Timeout | NatsError::Unconfirmed => ErrorCode::Timeout,
        NatsError::Refused(_) | NatsError::TooLarge { .. } => ErrorCode::BadData,
    }
}

/// The error for the client of an error of NATS.
pub fn client_error(error: &NatsError) -> ClientError {
    ClientError::new(error_code(error), error.to_string())
}
