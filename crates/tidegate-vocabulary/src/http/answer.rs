//! Answer: the response to an HTTP request, and its form in frames. The frame's message is the body; its note has the
//! status or the error code.

use bytes::Bytes;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;

/// The response to an HTTP request. The transport adds headers and formats errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAnswer {
    Status(u16),
    /// A status, and a JSON body.
    Json(u16, Bytes),
    /// The route returns one value, and there is none.
    NoValue,
    /// An error.
    Refused(ClientError),
}

/// The notes of frames. The note of an error is its code.
const JSON: &str = "json";
const NO_VALUE: &str = "no_value";

impl HttpAnswer {
    /// The response from the frames of a session: those of a route, or messages as over a WebSocket.
    pub fn of(frames: &[Frame]) -> Self {
        match frames {
            [] => Self::Status(202),
            [first, ..] if !first.note().is_empty() => Self::noted(first),
            [one] => Self::Json(200, one.clone().into_message()),
            several => {
                let messages: Vec<&[u8]> = several.iter().map(Frame::message).collect();
                let list = [&b"["[..], &messages.join(&b","[..]), b"]"].concat();
                Self::Json(200, list.into())
            }
        }
    }

    /// The response of a session that ended without a message. Over a WebSocket, the close frame would carry the error.
    /// `None` if the reason is not an error.
    pub fn of_end(reason: &str) -> Option<Frame> {
        let code = ErrorCode::ALL.into_iter().find(|code| code.name() == reason)?;
        Some(Self::Refused(ClientError::new(code, "the message was refused")).to_frame())
    }

    fn noted(frame: &Frame) -> Self {
        let note = std::str::from_utf8(frame.note()).unwrap_or_default();
        if note == NO_VALUE {
            return Self::NoValue;
        }
        if let Some(code) = ErrorCode::ALL.into_iter().find(|code| code.name() == note) {
            let message = String::from_utf8_lossy(frame.message()).into_owned();
            return Self::Refused(ClientError { code, message });
        }
        let (status, kind) = note.split_once(' ').unwrap_or((note, ""));
        let status = status.parse().unwrap_or(200);
        if kind == JSON { Self::Json(status, frame.clone().into_message()) } else { Self::Status(status) }
    }

    /// The response as a frame, for [`HttpAnswer::of`].
    pub(crate) fn to_frame(&self) -> Frame {
        let (message, note) = match self {
            Self::Status(status) => (&b""[..], status.to_string()),
            Self::Json(status, body) => (&body[..], note_of_json(*status)),
            Self::NoValue => (&b""[..], NO_VALUE.to_owned()),
            Self::Refused(error) => (error.message.as_bytes(), error.code.name().to_owned()),
        };
        Frame::with_note(message.len(), |out| out.extend_from_slice(message), note.as_bytes())
    }
}

/// The note of a frame whose message is the body of a response with this status.
pub(crate) fn note_of_json(status: u16) -> String {
    format!("{status} {JSON}")
}

/// The HTTP status for an error.
pub fn status_of(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::BadRequest
        | ErrorCode::NotJson
        | ErrorCode::UnknownType
        | ErrorCode::Unsupported
        | ErrorCode::BadChannel
        | ErrorCode::AlreadySubscribed
        | ErrorCode::NotSubscribed
        | ErrorCode::BadData => 400,
        ErrorCode::Unauthorized | ErrorCode::TokenExpired => 401,
        ErrorCode::Forbidden => 403,
        ErrorCode::LimitExceeded | ErrorCode::RateLimited => 429,
        ErrorCode::NoResponders | ErrorCode::Service => 502,
        ErrorCode::Timeout => 504,
        ErrorCode::Unavailable | ErrorCode::TryAgain => 503,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_a_frame_is_the_same_answer() {
        let refusals =
            ErrorCode::ALL.map(|code| HttpAnswer::Refused(ClientError::new(code, "no \"words\" \0")));
        let others = [
            HttpAnswer::Status(204),
            HttpAnswer::Json(201, "{}".into()),
            HttpAnswer::Json(599, Bytes::new()),
            HttpAnswer::NoValue,
        ];
        for answer in refusals.into_iter().chain(others) {
            assert_eq!(HttpAnswer::of(&[answer.to_frame()]), answer);
        }
    }

    #[test]
    fn messages_of_a_websocket_are_one_body() {
        let frame = |text: &str| Frame::text(0, |out| out.extend_from_slice(text.as_bytes()));
        assert_eq!(HttpAnswer::of(&[]), HttpAnswer::Status(202));
        assert_eq!(HttpAnswer::of(&[frame("{}")]), HttpAnswer::Json(200, "{}".into()));
        assert_eq!(HttpAnswer::of(&[frame("1"), frame("2")]), HttpAnswer::Json(200, "[1,2]".into()));
    }
}
