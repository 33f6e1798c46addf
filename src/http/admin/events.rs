//! `GET /events`: what has happened lately to clients of this node, and why.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::timestamp::Timestamp;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::config::network::Network;
use crate::connection::events::event::EventKind;
use crate::connection::events::report::EventFilter;
use crate::connection::events::report::EventList;
use crate::connection::events::report::EventReport;
use crate::http::admin::access::Admin;
use crate::http::admin::parameters::ListPage;
use crate::http::admin::parameters::bad;
use crate::http::admin::parameters::parameters;
use crate::http::admin::parameters::unknown;
use crate::http::problem::Problem;
use crate::shard::job::ShardJob;

/// What a request asks for.
#[derive(Debug, PartialEq)]
struct EventsQuery {
    filter: EventFilter,
    page: ListPage,
}

/// A page of the events that the query selects, the newest first.
pub(super) async fn list(admin: &Admin, query: Option<&str>) -> Result<Response, Problem> {
    let EventsQuery { filter, page } = EventsQuery::parse(query.unwrap_or_default())?;
    let (filter, most) = (Arc::new(filter), page.most());
    let ask = |answer| ShardJob::ListEvents { filter: Arc::clone(&filter), most, answer };
    let mut all = EventList::default();
    for shard in admin.shards.iter() {
        all.merge(shard.run(ask).await.ok_or_else(Problem::overloaded)?, most);
    }
    let body = json!({
        "node": &*admin.node.name,
        "matching": all.matching,
        "limit": page.limit,
        "offset": page.offset,
        "since": all.since.map(|since| Timestamp::new(since).as_str().to_owned()),
        "omitted": admin.node.refused_requests.omitted.get(),
        "lost": admin.node.refused_requests.lost.get(),
        "events": page.of(&all.newest).map(object).collect::<Vec<Value>>(),
    });
    Ok(warp::reply::json(&body).into_response())
}

/// An event as JSON, without the members that do not apply.
fn object(event: &EventReport) -> Value {
    let mut object = without_session(event);
    if let Some(session) = &event.session {
        object["session"] = (&**session).into();
    }
    object
}

/// The same without the session.
pub(super) fn without_session(event: &EventReport) -> Value {
    let EventReport { at, count, session: _, kind, cause, status, amount, user, channel, address } = event;
    let mut object = json!({ "time": Timestamp::new(*at).as_str(), "event": kind.name() });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[name] = value;
        }
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.into());
    let is_request = *kind == EventKind::RequestRefused;
    set("count", (*count > 1).then(|| (*count).into()));
    set("operation", cause.operation.map(Into::into));
    set("code", cause.code.map(Into::into));
    set("reason", cause.reason.map(Into::into));
    set("limit", cause.limit.map(Into::into));
    set(if is_request { "status" } else { "close_code" }, (*status > 0).then(|| (*status).into()));
    if let Some(name) = kind.amount_name() {
        set(name, Some((*amount).into()));
    }
    // Who a refused credential claims to be is not proven.
    let is_claimed = is_request || cause.operation == Some("credential");
    set(if is_claimed { "claimed_user" } else { "user" }, text(user));
    set(if kind.has_endpoint() { "endpoint" } else { "channel" }, text(channel));
    set("address", text(address));
    object
}

impl EventsQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut parsed = Self { filter: EventFilter::default(), page: ListPage::default() };
        let Self { filter, page } = &mut parsed;
        for parameter in parameters(query) {
            let (name, value) = parameter?;
            match name.as_str() {
                "user" => filter.user = Some(value),
                "address" => {
                    let network = Network::parse(&value);
                    filter.address = Some(network.map_err(|error| bad(format!("`address`: {error}")))?);
                }
                "event" => filter.name = Some(name_of(&value)?),
                name if page.take(name, &value)? => {}
                _ => return Err(unknown(&name, "user, address, event, limit, offset")),
            }
        }
        Ok(parsed)
    }
}

/// The name of a kind of events.
fn name_of(value: &str) -> Result<&'static str, Problem> {
    let mut names = EventKind::ALL.map(EventKind::name).to_vec();
    names.dedup();
    let found = names.iter().find(|name| **name == value).copied();
    found.ok_or_else(|| bad(format!("`event` is none of {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_conditions_and_a_page() {
        let parse = |query| EventsQuery::parse(query).unwrap();
        let page = ListPage { limit: 100, offset: 0 };
        assert_eq!(parse(""), EventsQuery { filter: EventFilter::default(), page });
        let filter = EventFilter {
            user: Some("a b".to_owned()),
            address: Some(Network::parse("10.0.0.0/8").unwrap()),
            name: Some("refused"),
        };
        let page = ListPage { limit: 7, offset: 3 };
        let query = "user=a+b&address=10.0.0.0%2F8&event=refused&limit=7&offset=3";
        assert_eq!(parse(query), EventsQuery { filter, page });
        for (query, words) in [
            ("usr=alice", "use user, address, event, limit, offset"),
            ("address=localhost", "`address`: "),
            ("event=refuse", "`event` is none of connected, authenticated"),
            ("limit=1001", "from 1 to 1000"),
        ] {
            let problem = EventsQuery::parse(query).unwrap_err();
            assert!(problem.detail.contains(words), "{query}: {}", problem.detail);
        }
    }

    #[test]
    fn the_members_of_an_event_are_those_that_apply() {
        let event = EventReport {
            at: std::time::UNIX_EPOCH,
            count: 1,
            session: Some("s-1".into()),
            kind: EventKind::Gap,
            cause: Default::default(),
            status: 0,
            amount: 5,
            user: "".into(),
            channel: "".into(),
            address: "".into(),
        };
        let time = "1970-01-01T00:00:00.000Z";
        assert_eq!(object(&event), json!({ "time": time, "event": "gap", "missing": 5, "session": "s-1" }));
        let refused = EventReport {
            kind: EventKind::RequestRefused,
            status: 401,
            count: 3,
            session: None,
            user: "alice".into(),
            channel: "/ws".into(),
            address: "192.0.2.1".into(),
            ..event
        };
        let expected = json!({
            "time": time,
            "event": "refused",
            "count": 3,
            "status": 401,
            "claimed_user": "alice",
            "endpoint": "/ws",
            "address": "192.0.2.1",
        });
        assert_eq!(object(&refused), expected);
    }
}
