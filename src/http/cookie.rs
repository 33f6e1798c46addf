//! Finds one cookie in the headers of a request (RFC 6265 §4.2.1). It does not read the others.

use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::http::header;

use crate::http::problem::Problem;

/// Whether a request has a cookie with this name, whatever its value.
pub fn is_present(headers: &HeaderMap, name: &str) -> bool {
    values(headers, name).next().is_some()
}

/// The value of the cookie with this name. `None` without one, or if it is empty. Browsers send several with one name
/// if they were set for different paths or domains, and another page may have set the wrong one: that is an error.
pub fn value<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = values(headers, name);
    let (value, is_only) = (values.next(), values.next().is_none());
    if !is_only {
        let detail = format!(
            "the cookie {name} occurs twice: set it for one path and one domain; the prefix `__Host-` enforces that"
        );
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail));
    }
    let Some(value) = value else { return Ok(None) };
    let text =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let text = text.ok_or_else(|| {
        let detail =
            format!("the cookie {name} is not a token: set it to the token, without quotation marks");
        Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail)
    })?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The values of all cookies with this name.
fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.filter_map(move |pair| pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        for (lines, found) in [
            (&["session=abc"][..], Some("abc")),
            (&["a=1; session=abc; b=2"], Some("abc")),
            (&["a=1;session=abc"], Some("abc")),
            (&["a=1", "session=abc"], Some("abc")),
            (&["session=a=b"], Some("a=b")),
            (&["session="], None),
            (&["session"], None),
            (&["sessions=abc"], None),
            (&["xsession=abc"], None),
            (&["SESSION=abc"], None),
            (&["a=session=abc"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(value(&headers(lines), "session").unwrap(), found, "{lines:?}");
        }
    }

    #[test]
    fn two_cookies_of_one_name_and_values_that_are_no_tokens_are_refused() {
        for lines in [
            &["session=a; session=b"][..],
            &["session=a", "session=a"],
            &["session=a b"],
            &["session=\u{e9}"],
        ] {
            let problem = value(&headers(lines), "session").unwrap_err();
            assert_eq!(
                (problem.status, problem.code),
                (StatusCode::BAD_REQUEST, "bad_credential"),
                "{lines:?}"
            );
            assert!(is_present(&headers(lines), "session"), "{lines:?}");
        }
    }
}
