//! The admin listener: metrics, connections, explanations and health, for operators.

pub mod access;
mod changes;
mod class;
mod config;
mod connections;
mod events;
mod explain;
mod metrics;
mod nodes;
mod parameters;
mod process;
mod subscriptions;
pub mod view;

use std::sync::Arc;

use warp::Filter;
use warp::filters::path::FullPath;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::http::admin::access::Admin;
use crate::http::admin::changes::AdminChange;
use crate::http::connection_info::ConnectionInfo;
use crate::http::filters::Routes;
use crate::http::filters::not_found;
use crate::http::filters::query;
use crate::http::filters::read_only;
use crate::http::health;
use crate::http::problem::Problem;

/// The most sockets of the admin listener. They are counted apart, so that a full node can still be observed. `app::descriptors`
/// reserves descriptors for them.
pub const MAX_SOCKETS: usize = 8;

/// What an operator reads.
#[derive(Clone, Debug, PartialEq)]
enum AdminPage {
    Metrics,
    Connections,
    /// The session with this id.
    Connection(String),
    Events,
    Explain,
    Config,
    Subscriptions,
    Nodes,
}

impl AdminPage {
    /// The page at this path, which is not decoded: ids of sessions need no escapes.
    fn at(path: &str) -> Option<Self> {
        match path.strip_suffix('/').unwrap_or(path) {
            "/metrics" => Some(Self::Metrics),
            "/connections" => Some(Self::Connections),
            "/events" => Some(Self::Events),
            "/explain" => Some(Self::Explain),
            "/config" => Some(Self::Config),
            "/subscriptions" => Some(Self::Subscriptions),
            "/nodes" => Some(Self::Nodes),
            path => {
                let session = path.strip_prefix("/connections/").filter(|session| !session.is_empty());
                session.map(|session| Self::Connection(session.to_owned()))
            }
        }
    }

    async fn answer(
        &self,
        admin: &Admin,
        headers: &HeaderMap,
        query: Option<&str>,
        connection: &ConnectionInfo,
    ) -> Result<Response, Problem> {
        admin.authorize(headers).await?;
        match self {
            Self::Metrics => metrics::answer(admin, headers).await,
            Self::Connections => connections::list(admin, query).await,
            Self::Connection(session) => connections::describe(admin, session).await,
            Self::Events => events::list(admin, query).await,
            Self::Explain => explain::answer(admin, headers, query, connection).await,
            Self::Config => Ok(config::answer(admin)),
            Self::Subscriptions => subscriptions::answer(admin, query).await,
            Self::Nodes => nodes::answer(admin).await,
        }
    }
}

/// All routes of the admin listener.
pub fn routes(admin: &Arc<Admin>) -> Routes {
    let own = Arc::clone(admin);
    let page = warp::path::full().and_then(|path: FullPath| async move {
        AdminPage::at(path.as_str()).ok_or_else(warp::reject::not_found)
    });
    let pages = page
        .and(read_only())
        .and(warp::header::headers_cloned())
        .and(query())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(
            move |page: AdminPage, headers: HeaderMap, query: Option<String>, connection: ConnectionInfo| {
                let admin = Arc::clone(&own);
                async move {
                    let answer = page.answer(&admin, &headers, query.as_deref(), &connection).await;
                    let answer = answer.inspect_err(|problem| admin.log(problem, &connection));
                    Ok::<_, warp::Rejection>(answer.unwrap_or_else(Reply::into_response))
                }
            },
        );
    let own = Arc::clone(admin);
    let change = warp::path::full().and_then(|path: FullPath| async move {
        AdminChange::at(path.as_str()).ok_or_else(warp::reject::not_found)
    });
    let changes = change
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(
            move |change: AdminChange, method, headers: HeaderMap, body, connection: ConnectionInfo| {
                let admin = Arc::clone(&own);
                async move {
                    let answer = match method {
                        Method::POST => change.answer(&admin, &headers, body, &connection).await,
                        _ => Err(other_method()),
                    };
                    let answer = answer.inspect_err(|problem| admin.log(problem, &connection));
                    Ok::<_, warp::Rejection>(answer.unwrap_or_else(Reply::into_response))
                }
            },
        );
    let pages = pages.or(changes).unify();
    let routes = health::routes(Arc::clone(&admin.node)).or(pages).unify().recover(not_found).unify();
    routes.map(with_safe_headers).boxed()
}

fn other_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use POST for a change")
        .with_header(header::ALLOW, "POST")
}

/// No browser guesses the type of an answer, or keeps it.
fn with_safe_headers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
