//! Rules about TLS between sections.

use crate::config::Config;
use crate::config::endpoint;
use crate::config::endpoint::EndpointConfig;
use crate::config::table::ConfigTable;

/// Reports all errors and warnings.
pub(super) fn tls(root: &ConfigTable<'_>, config: &Config) {
    endpoints(root, config);
    redirect(root, config);
    let mut listeners = std::iter::once(None).chain(endpoint::extra_listeners(&config.endpoints).map(Some));
    if config.tls.is_on() && !listeners.any(|listen| config.uses_tls(listen.as_ref())) {
        let message = "no listener uses TLS: http.listen and those of all endpoints are Unix sockets or have tls = false";
        root.warning("tls", message);
    }
    if !config.tls.is_on() && config.tls.hsts.is_some() {
        root.warning(
            "tls.hsts_s",
            "this has no effect, because there is no certificate; set tls.cert_file and tls.key_file",
        );
    }
    if !config.tls.is_on() && config.tls.client_ca_file.is_some() {
        let help = "set tls.cert_file and tls.key_file, or remove this key";
        root.error("tls.client_ca_file", "this needs TLS, and there is no certificate", help);
    }
    if config.tls.acme.is_some() && config.tls.client_ca_file.is_some() {
        let message = "the certificate authority checks the node without a client certificate, so tls.acme and \
                       tls.client_ca_file exclude each other";
        let help = "use certificates in files, or remove tls.client_ca_file";
        root.error("tls.client_ca_file", message, help);
    }
}

/// Endpoints that share a listener must agree.
fn endpoints(root: &ConfigTable<'_>, config: &Config) {
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        let shares = |other: &&EndpointConfig| endpoint.listen.is_some() && other.listen == endpoint.listen;
        let first = config.endpoints[..at].iter().find(shares);
        if let Some(first) = first.filter(|first| first.tls != endpoint.tls) {
            let listen = first.listen.as_ref().map(ToString::to_string).unwrap_or_default();
            let message = format!("another endpoint at {listen} has tls = {}", first.tls);
            root.error(
                &format!("endpoint[{at}].tls"),
                message,
                "write the same in both, or give each its own `listen`",
            );
        }
    }
}

fn redirect(root: &ConfigTable<'_>, config: &Config) {
    if config.http.redirect_listen.is_some() && !config.uses_tls(None) {
        let help = "set tls.cert_file and tls.key_file, or remove this key";
        root.error("http.redirect_listen", "it sends clients to https://, but http.listen has no TLS", help);
    }
    let Some(redirect) = config.http.redirect_listen.filter(|redirect| redirect.port() != 0) else { return };
    let mut others = std::iter::once(&config.http.listen)
        .chain(config.endpoints.iter().filter_map(|endpoint| endpoint.listen.as_ref()));
    if others.any(|listen| listen.tcp() == Some(redirect)) {
        let message = format!("{redirect} is also the address of a listener that serves clients");
        root.error("http.redirect_listen", message, "choose another port");
    }
}
