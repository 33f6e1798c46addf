//! Pebble, the certificate authority of Let's Encrypt for tests, with a DNS server that sends every name to this machine.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tidegate::config::tls::acme::AcmeConfig;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;

use crate::support::certificates::CertificateFolder;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::raw::RawClient;
use crate::support::tls::TlsClient;

/// A running Pebble.
pub(crate) struct Pebble {
    pebble: Child,
    dns: Child,
    directory: u16,
    management: u16,
    /// Has the CA of Pebble's own certificate, and its configuration.
    folder: CertificateFolder,
}

impl Pebble {
    /// It checks names at this port of this machine, and its certificates are valid for this time.
    pub(crate) async fn start(name: &str, tls_port: u16, valid_for: Duration) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/acme/get-pebble.sh");
        let found = Command::new(script).stderr(Stdio::inherit()).output().await.unwrap();
        assert!(found.status.success(), "Pebble cannot be installed");
        let programs = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        let folder = CertificateFolder::new(name);
        let own = folder.issue("pebble", &["127.0.0.1"]);
        let (directory, management, dns_port, dns_management) = (
            NatsServer::free_port(),
            NatsServer::free_port(),
            NatsServer::free_port(),
            NatsServer::free_port(),
        );
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{directory}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": own.cert_file,
            "privateKey": own.key_file,
            "httpPort": 1,
            "tlsPort": tls_port,
            "retryAfter": { "authz": 1, "order": 1 },
            "profiles": { "default": { "description": "tests", "validityPeriod": valid_for.as_secs() } },
        }});
        let file = folder.write("pebble.json", &config.to_string());
        let dns_address = format!("127.0.0.1:{dns_port}");
        let spawn = |command: &mut Command| {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        };
        let dns = spawn(
            Command::new(programs.join("pebble-challtestsrv"))
                .args([
                    "-defaultIPv4",
                    "127.0.0.1",
                    "-defaultIPv6",
                    "",
                    "-dnsserver",
                    &dns_address,
                    "-http01",
                    "",
                ])
                .args(["-https01", "", "-tlsalpn01", "", "-doh", "", "-management"])
                .arg(format!("127.0.0.1:{dns_management}")),
        );
        let pebble = spawn(
            Command::new(programs.join("pebble"))
                .arg("-config")
                .arg(file)
                .args(["-dnsserver", &dns_address])
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_AUTHZREUSE", "0"),
        );
        for port in [directory, management, dns_management] {
            eventually("Pebble listens", || async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() })
                .await;
        }
        Self { pebble, dns, directory, management, folder }
    }

    /// A configuration that orders certificates for this name here.
    pub(crate) fn config(&self, domain: &str) -> AcmeConfig {
        AcmeConfig {
            domains: vec![domain.to_owned()],
            contact: vec!["mailto:ops@tidegate.test".to_owned()],
            cache_dir: self.folder.path().join("cache"),
            directory_url: format!("https://127.0.0.1:{}/dir", self.directory),
            directory_ca_file: Some(self.folder.ca_file()),
        }
    }

    /// The certificate of the CA that issues, in PEM.
    pub(crate) async fn root(&self) -> String {
        let tls = TlsClient::new(&self.folder.ca_pem()).with_http_1_1_only();
        let stream = TcpStream::connect(("127.0.0.1", self.management)).await.unwrap();
        let mut client = RawClient::over(tls.try_over("127.0.0.1", stream).await.unwrap());
        client.send(b"GET /roots/0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        client.head().await;
        String::from_utf8(client.rest().await).unwrap()
    }

    /// Ends it. Its folder stays.
    pub(crate) async fn kill(&mut self) {
        self.pebble.kill().await.unwrap();
        self.dns.kill().await.unwrap();
    }
}
