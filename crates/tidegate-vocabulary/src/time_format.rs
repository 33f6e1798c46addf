//! `TimeFormat`: how a vocabulary writes instants.

/// The format of an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2024-10-05T10:30:00.000Z`
    #[default]
    Rfc3339Millis,
    /// `2024-10-05T10:30:00Z`
    Rfc3339,
    /// `2024-10-05T10:30:00`, in UTC
    Naive,
    /// Seconds since 1970, a number
    Unix,
    /// Milliseconds since 1970, a number
    UnixMillis,
}

const TIMES: [(&str, TimeFormat); 5] = [
    ("rfc3339_ms", TimeFormat::Rfc3339Millis),
    ("rfc3339", TimeFormat::Rfc3339),
    ("naive", TimeFormat::Naive),
    ("unix", TimeFormat::Unix),
    ("unix_ms", TimeFormat::UnixMillis),
];

impl TimeFormat {
    pub fn by_name(name: &str) -> Option<Self> {
        TIMES.iter().find(|(known, _)| *known == name).map(|(_, time)| *time)
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        TIMES.iter().map(|(name, _)| *name)
    }
}
