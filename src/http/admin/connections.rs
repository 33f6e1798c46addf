//! `GET /connections` and `GET /connections/{session}`: who is connected, and whose outbox is the fullest.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::timestamp::Timestamp;
use warp::http::StatusCode;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::config::network::Network;
use crate::connection::events::event::EventKind;
use crate::connection::events::report::EventReport;
use crate::connection::events::report::SessionHistory;
use crate::connection::report::ConnectionFilter;
use crate::connection::report::ConnectionList;
use crate::connection::report::ConnectionReport;
use crate::http::admin::access::Admin;
use crate::http::admin::class::class_object;
use crate::http::admin::events;
use crate::http::admin::parameters::ListPage;
use crate::http::admin::parameters::bad;
use crate::http::admin::parameters::millis;
use crate::http::admin::parameters::parameters;
use crate::http::admin::parameters::unknown;
use crate::http::problem::Problem;
use crate::shard::job::ConnectionDetails;
use crate::shard::job::SessionDetails;
use crate::shard::job::ShardJob;

/// What a request asks for.
#[derive(Debug, PartialEq)]
struct ConnectionsQuery {
    filter: ConnectionFilter,
    page: ListPage,
}

/// A page of the connections that the query selects.
pub(super) async fn list(admin: &Admin, query: Option<&str>) -> Result<Response, Problem> {
    let ConnectionsQuery { filter, page } = ConnectionsQuery::parse(query.unwrap_or_default())?;
    let (filter, most) = (Arc::new(filter), page.most());
    let ask = |answer| ShardJob::ListConnections { filter: Arc::clone(&filter), most, answer };
    let mut all = ConnectionList::default();
    // One after another, so that no more than two lists are in memory.
    for shard in admin.shards.iter() {
        all.merge(shard.run(ask).await.ok_or_else(Problem::overloaded)?, most);
    }
    let connections: Vec<Value> = page.of(&all.worst).map(object).collect();
    let body = json!({
        "node": &*admin.node.name,
        "matching": all.matching,
        "limit": page.limit,
        "offset": page.offset,
        "connections": connections,
    });
    Ok(warp::reply::json(&body).into_response())
}

/// One session: its connection with its subscriptions if it is open, and its events.
pub(super) async fn describe(admin: &Admin, session: &str) -> Result<Response, Problem> {
    let session: Arc<str> = session.into();
    let ask = |answer| ShardJob::DescribeSession { session: Arc::clone(&session), answer };
    let found = join_all(admin.shards.iter().map(|shard| shard.run(ask))).await;
    let found = found.into_iter().collect::<Option<Vec<_>>>().ok_or_else(Problem::overloaded)?;
    let is_known = |found: &SessionDetails| found.connection.is_some() || !found.history.events.is_empty();
    let Some(SessionDetails { connection, history }) = found.into_iter().find(is_known) else {
        let detail = "this node knows no such session: it has ended long ago, or is on another node";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail));
    };
    let mut body = match connection {
        Some(ConnectionDetails { report, channels }) => {
            let mut body = object(&report);
            let classes = &admin.view.get().classes;
            let channels = channels.iter().map(
                |channel| json!({ "channel": channel.as_str(), "class": class_object(classes, channel) }),
            );
            body["channels"] = channels.collect();
            body
        }
        None => ended_object(&session, &history),
    };
    body["events"] = history.events.iter().map(events::without_session).collect();
    body["complete"] = history.is_complete.into();
    Ok(warp::reply::json(&body).into_response())
}

/// What the events say of a session that has ended.
fn ended_object(session: &str, history: &SessionHistory) -> Value {
    let find = |kind: EventKind| history.events.iter().find(|event| event.kind == kind);
    let (connected, ended) = (find(EventKind::Connected), find(EventKind::Disconnected));
    // The last event says again who it was. The first may be overwritten.
    let either = connected.or(ended);
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let has_user = |event: &&EventReport| {
        let kinds = [EventKind::Connected, EventKind::Authenticated, EventKind::Disconnected];
        kinds.contains(&event.kind) && !event.user.is_empty()
    };
    json!({
        "session": session,
        "user": history.events.iter().find(has_user).map(|event| &*event.user),
        "endpoint": either.map(|event| &*event.channel),
        "address": either.and_then(|event| text(&event.address)),
        "connected_at": connected.map(|event| time(event.at)),
        "ended_at": ended.map(|event| time(event.at)),
    })
}

/// A connection as JSON. It has nothing of a credential but whose it is.
fn object(report: &ConnectionReport) -> Value {
    let identity = report.identity.as_deref();
    json!({
        "session": &*report.session,
        "user": identity.map(|identity| &*identity.user),
        "anonymous": identity.map(|identity| identity.anonymous),
        "roles": identity.map(|identity| identity.roles.iter().map(|role| &**role).collect::<Vec<_>>()),
        "issuer": identity.and_then(|identity| identity.issuer.as_deref()),
        "expires_at": identity.and_then(|identity| identity.expires).map(time),
        "endpoint": &*report.endpoint,
        "transport": report.transport,
        "peer": report.client_address.peer.to_string(),
        "forwarded": report.client_address.forwarded.map(|address| address.to_string()),
        "user_agent": report.user_agent.as_deref(),
        "label": report.label.as_deref(),
        "connected_at": time(report.connected_at),
        "last_message_at": report.last_message_at.map(time),
        "subscriptions": report.subscriptions,
        "queued_bytes": report.queued_bytes,
        "queued_publications": report.queued_publications,
        "stalled_ms": report.stalled_for.map(millis),
        "delivered": report.delivery_counts.delivered,
        "dropped": report.delivery_counts.dropped,
        "closing": report.is_closing,
    })
}

/// A time as JSON has it.
fn time(time: SystemTime) -> String {
    Timestamp::new(time).as_str().to_owned()
}

impl ConnectionsQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut parsed = Self { filter: ConnectionFilter::default(), page: ListPage::default() };
        let Self { filter, page } = &mut parsed;
        for parameter in parameters(query) {
            let (name, value) = parameter?;
            match name.as_str() {
                "user" => filter.user = Some(value),
                "channel" => {
                    let channel = Pattern::parse(&value);
                    filter.channel = Some(channel.map_err(|error| bad(format!("`channel`: {error}")))?);
                }
                "address" => {
                    let network = Network::parse(&value);
                    filter.address = Some(network.map_err(|error| bad(format!("`address`: {error}")))?);
                }
                "label" => filter.label = Some(value),
                name if page.take(name, &value)? => {}
                _ => return Err(unknown(&name, "user, channel, address, label, limit, offset")),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_conditions_and_a_page() {
        let parse = |query| ConnectionsQuery::parse(query).unwrap();
        let page = ListPage { limit: 100, offset: 0 };
        let none = ConnectionsQuery { filter: ConnectionFilter::default(), page };
        assert_eq!(parse(""), none);
        let filter = ConnectionFilter {
            user: Some("a b".to_owned()),
            channel: Some(Pattern::parse("prices.*").unwrap()),
            address: Some(Network::parse("10.0.0.0/8").unwrap()),
            label: Some("desk 7".to_owned()),
        };
        let query = "label=desk+7&user=a+b&channel=prices.*&address=10.0.0.0%2F8&limit=1000&offset=10000";
        assert_eq!(parse(query), ConnectionsQuery { filter, page: ListPage { limit: 1000, offset: 10_000 } });
    }

    #[test]
    fn a_session_whose_first_events_are_overwritten_is_known_by_its_last() {
        let event = |kind| EventReport {
            at: std::time::UNIX_EPOCH,
            count: 1,
            session: None,
            kind,
            cause: Default::default(),
            status: 0,
            amount: 0,
            user: "alice".into(),
            channel: "/ws".into(),
            address: "192.0.2.1".into(),
        };
        let found = |kinds: &[EventKind]| {
            let events = kinds.iter().copied().map(event).collect();
            let body = ended_object("s", &SessionHistory { events, is_complete: false });
            ["user", "endpoint", "address", "connected_at", "ended_at"].map(|name| body[name].clone())
        };
        let time = json!("1970-01-01T00:00:00.000Z");
        let who = ["alice", "/ws", "192.0.2.1"].map(Value::from);
        let [user, endpoint, address] = who;
        let expected = [user, endpoint, address, Value::Null, time.clone()];
        assert_eq!(found(&[EventKind::Published, EventKind::Disconnected]), expected);
        let [.., connected_at, _] = found(&[EventKind::Connected, EventKind::Disconnected]);
        assert_eq!(connected_at, time);
    }

    #[test]
    fn a_query_with_a_mistake_says_what_is_wrong() {
        for (query, words) in [
            ("usr=alice", "use user, channel, address, label, limit, offset"),
            ("user=%ff", "UTF-8"),
            ("channel=a..b", "`channel`: "),
            ("address=localhost", "`address`: "),
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("offset=-1", "from 0 to 10000"),
            ("offset=10001", "from 0 to 10000"),
        ] {
            let problem = ConnectionsQuery::parse(query).unwrap_err();
            assert_eq!((problem.status, problem.code), (StatusCode::BAD_REQUEST, "bad_request"));
            assert!(problem.detail.contains(words), "{query}: {}", problem.detail);
        }
    }
}
