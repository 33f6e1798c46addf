//! A token as an argument, or from standard input, where no list of processes shows it.

use std::io::Read as _;

/// Longer input cannot be a token.
const MAX_INPUT_BYTES: u64 = 1024 * 1024;

/// The token of the argument or, without one, of standard input. `Bearer ` in front of it is ignored.
pub(super) fn read(argument: Option<&str>) -> Result<String, String> {
    let text = match argument {
        Some(token) => token.to_owned(),
        None => from_standard_input()
            .map_err(|error| format!("cannot read the token from standard input: {error}"))?,
    };
    let token = text.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    if token.is_empty() {
        return Err("there is no token: write it as argument or to standard input".to_owned());
    }
    Ok(token.to_owned())
}

fn from_standard_input() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin().take(MAX_INPUT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
