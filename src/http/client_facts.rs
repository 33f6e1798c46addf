//! What the service that judges credentials learns of a request besides the credential.

use warp::http::HeaderMap;

use crate::auth::service::ClientFacts;
use crate::config::auth::service::ServiceConfig;
use crate::http::cookie;
use crate::http::origin::Sender;
use crate::http::trusted_proxies::TrustedProxies;
use crate::net::peer::Peer;

/// A request whose sender may talk to the endpoint.
#[derive(Clone, Copy)]
pub struct Requester<'r> {
    pub sender: &'r Sender,
    pub headers: &'r HeaderMap,
    /// The address at the other end of the socket: the client, or a proxy.
    pub peer: Peer,
}

impl Requester<'_> {
    /// What the service learns. Cookies count only if the page may use them; a cookie that the request has twice counts
    /// as absent.
    pub fn facts(&self, service: &ServiceConfig, proxies: &TrustedProxies) -> ClientFacts {
        let header = |name: &String| {
            let values = self.headers.get_all(name).iter();
            let values: Vec<_> =
                values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
            (!values.is_empty()).then(|| (name.clone(), values))
        };
        let may_use_cookies = self.sender.check_cookie().is_ok();
        let cookie = |name: &String| {
            Some((name.clone(), cookie::value(self.headers, name).ok().flatten()?.to_owned()))
        };
        let cookies = service.cookies.iter().filter(|_| may_use_cookies);
        ClientFacts {
            address: proxies.client_address(self.peer, self.headers).ip(),
            origin: self.sender.origin.page().map(|origin| origin.as_str().to_owned()),
            headers: service.headers.iter().filter_map(header).collect(),
            cookies: cookies.filter_map(cookie).collect(),
        }
    }
}
