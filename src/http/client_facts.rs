//! What the service that judges credentials learns of a request besides the credential.

use warp::http::HeaderMap;
use warp::http::Method;

use crate::auth::service::ClientFacts;
use crate::config::auth::service::ServiceConfig;
use crate::http::cookie;
use crate::http::origin::OriginPolicy;
use crate::http::origin::Sender;
use crate::http::presented::check_json;
use crate::http::problem::Problem;
use crate::http::trusted_proxies::TrustedProxies;
use crate::net::peer::Peer;

/// A request whose sender may talk to the endpoint.
#[derive(Clone, Copy)]
pub struct Requester<'r> {
    /// The policy that has let the sender in.
    pub policy: &'r OriginPolicy,
    pub sender: &'r Sender,
    pub headers: &'r HeaderMap,
    /// The address at the other end of the socket: the client, or a proxy.
    pub peer: Peer,
}

impl Requester<'_> {
    /// Whether cookies of the request count: the endpoint accepts some, and the page may use them.
    fn may_use_cookies(&self) -> bool {
        self.policy.accepts_cookies && self.sender.check_cookie().is_ok()
    }

    /// A call whose sender the service may know by a cookie must have a body that no HTML form can send, if it may change
    /// something (adm-02).
    pub fn check_content_type(
        &self,
        service: Option<&ServiceConfig>,
        method: &Method,
    ) -> Result<(), Problem> {
        let is_present = |name: &String| cookie::is_present(self.headers, name);
        match service {
            Some(service) if self.may_use_cookies() && service.cookies.iter().any(is_present) => {
                check_json(method, self.headers)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What the service learns. Cookies count only if the page may use them; a cookie that the request has twice counts
    /// as absent.
    pub fn facts(&self, service: &ServiceConfig, proxies: &TrustedProxies) -> ClientFacts {
        let header = |name: &String| {
            let values = self.headers.get_all(name).iter();
            let values: Vec<_> =
                values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
            (!values.is_empty()).then(|| (name.clone(), values))
        };
        let cookie = |name: &String| {
            Some((name.clone(), cookie::value(self.headers, name).ok().flatten()?.to_owned()))
        };
        let cookies = service.cookies.iter().filter(|_| self.may_use_cookies());
        ClientFacts {
            address: proxies.client_address(self.peer, self.headers).ip(),
            origin: self.sender.origin.page().map(|origin| origin.as_str().to_owned()),
            headers: service.headers.iter().filter_map(header).collect(),
            cookies: cookies.filter_map(cookie).collect(),
        }
    }
}
