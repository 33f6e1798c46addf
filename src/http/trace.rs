//! The trace of a request: its headers `traceparent` and `tracestate` (W3C Trace Context). A malformed one is no mistake.

use tidegate_protocol::trace_context::TRACEPARENT;
use tidegate_protocol::trace_context::TRACESTATE;
use tidegate_protocol::trace_context::TraceContext;
use tidegate_protocol::trace_context::TraceParent;
use warp::http::HeaderMap;
use warp::http::HeaderValue;

/// The trace context of a request, if it has one.
pub fn context_of(headers: &HeaderMap) -> Option<TraceContext> {
    let states = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str);
    // §3.3.1.1: several lines are one list. If one cannot be read, none counts.
    let state = states.collect::<Result<Vec<_>, _>>().ok().map(|states| states.join(","));
    TraceContext::parse(traceparent(headers)?, state.as_deref())
}

/// The id of the trace of a request, for logs.
pub fn id_of(headers: &HeaderMap) -> Option<String> {
    TraceParent::parse(traceparent(headers)?).map(TraceParent::trace_id_text)
}

/// §3.2: there is one `traceparent`; of several, none counts.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_request_has_one_traceparent_and_any_number_of_tracestates() {
        let context = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(id_of(&headers).is_some(), context_of(&headers).is_some());
            context_of(&headers).map(|context| (context.parent.to_string(), context.state.map(String::from)))
        };
        let read = |state: Option<&str>| Some((PARENT.to_owned(), state.map(str::to_owned)));
        let parent = (TRACEPARENT, PARENT);
        assert_eq!(context(&[parent]), read(None));
        assert_eq!(context(&[parent, (TRACESTATE, "a=1")]), read(Some("a=1")));
        assert_eq!(context(&[(TRACESTATE, "a=1"), parent, (TRACESTATE, "b=2")]), read(Some("a=1,b=2")));
        assert_eq!(context(&[parent, (TRACESTATE, "a=1"), (TRACESTATE, "b=\u{e9}")]), read(None));
        for lines in [&[][..], &[parent, parent], &[(TRACEPARENT, "00-1")], &[(TRACESTATE, "a=1")]] {
            assert_eq!(context(lines), None, "{lines:?}");
        }
    }
}
