//! The test page of a vocabulary: connects to one of its paths, sends messages, and shows messages. It is at
//! `/console/<name>`, and where a rule of the vocabulary has `do = "console"`. Its script and style sheet have the page's
//! own path and a query, so they need no other routes.

use std::sync::Arc;
use std::time::SystemTime;

use tidegate_vocabulary::model::CompiledVocabulary;
use warp::Filter;
use warp::http::HeaderMap;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::auth::policy::Via;
use crate::http::authorization::authorization;
use crate::http::authorization::credentials;
use crate::http::client_facts::Requester;
use crate::http::connection_info::ConnectionInfo;
use crate::http::console;
use crate::http::console::escaped;
use crate::http::endpoint::Endpoint;
use crate::http::filters::Routes;
use crate::http::filters::query;
use crate::http::filters::read_only;
use crate::http::gate::Gate;
use crate::http::presented::PresentedCredential;
use crate::http::problem::Problem;
use crate::net::peer::Peer;

const PAGE: &str = include_str!("test_page.html");
const SCRIPT: &str = concat!(include_str!("diagnosis.js"), include_str!("test_page.js"));
const OUTLINE: &str = "{{outline}}";

/// The pages of the vocabularies of a listener: `/console/<name>`.
pub fn route(gate: Arc<Gate>) -> Routes {
    warp::path!("console" / String)
        .and(read_only())
        .and(query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<ConnectionInfo>())
        .and_then(
            move |name: String, query: Option<String>, headers: HeaderMap, connection: ConnectionInfo| {
                let gate = Arc::clone(&gate);
                async move {
                    let page = page(&gate, &name, query.as_deref(), &headers, connection.peer).await;
                    page.ok_or_else(warp::reject::not_found)
                }
            },
        )
        .boxed()
}

/// The page of the vocabulary with this name. A credential that the node rejects is an error, which the page shows.
async fn page(
    gate: &Gate,
    name: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    peer: Peer,
) -> Option<Response> {
    if headers.contains_key(header::UPGRADE) {
        return None;
    }
    let mut endpoints = gate.endpoints().filter_map(|endpoint| Some((endpoint, endpoint.file()?.1)));
    let (endpoint, vocabulary) = endpoints.find(|(_, vocabulary)| *vocabulary.name == *name)?;
    let answer = checked(gate, endpoint, headers, peer).await.map(|()| answer(vocabulary, query));
    Some(answer.unwrap_or_else(Reply::into_response))
}

/// Checks the origin and the credential of the request. Cookies do not count for a page.
async fn checked(gate: &Gate, endpoint: &Endpoint, headers: &HeaderMap, peer: Peer) -> Result<(), Problem> {
    let sender = endpoint.origins.decide(headers)?;
    let credentials = credentials(authorization(headers)?, std::iter::empty(), &[])?;
    let credential = PresentedCredential::in_headers(&credentials);
    let now = SystemTime::now();
    let requester = Requester { policy: &endpoint.origins, sender: &sender, headers, peer };
    gate.identify(endpoint, Via::Http, None, credential.as_ref(), &requester, now).await.map(drop)
}

/// The page, or one of its files, by the query.
pub fn answer(vocabulary: &CompiledVocabulary, query: Option<&str>) -> Response {
    match query {
        Some("script") => console::file("text/javascript; charset=utf-8", SCRIPT),
        Some("style") => console::style(),
        Some(_) | None => {
            let outline = escaped(&vocabulary.outline().to_string());
            console::file("text/html; charset=utf-8", PAGE.replace(OUTLINE, &outline))
        }
    }
}
