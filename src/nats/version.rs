//! The nats-server versions that Tidegate supports.

/// The oldest supported nats-server.
pub const OLDEST_SERVER: (u64, u64) = (2, 12);

/// Whether a version such as `2.15.1` or `2.12.0-RC.1` is supported. One that cannot be parsed counts as new.
pub fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= OLDEST_SERVER,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, new_enough) in [
            ("2.15.1", true),
            ("2.12.0", true),
            ("2.12.0-RC.1", true),
            ("2.9.10", false),
            ("1.99", false),
            ("3.0", true),
        ] {
            assert_eq!(is_new_enough(version), new_enough, "{version}");
        }
    }
}
