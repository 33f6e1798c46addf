//! `TlsSettings`: what the TLS listeners of a node use for new sessions. It can be replaced while the node runs.

use std::cell::Cell;
use std::cell::RefCell;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::ServerConnection;

use crate::net::tls::TlsStream;

/// The settings of new sessions. Clones share them. Only accepted sockets read them, so the short lock inside `watch` is
/// not on the delivery path.
#[derive(Clone, Debug)]
pub struct TlsSettings(Arc<watch::Sender<Arc<ServerConfig>>>);

impl TlsSettings {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(config))))
    }

    /// Replaces the settings. Sessions that have begun keep theirs.
    pub(super) fn replace(&self, config: ServerConfig) {
        self.0.send_replace(Arc::new(config));
    }

    /// Starts a session on an accepted socket. The TLS handshake takes place during the first reads.
    pub fn accept(&self, tcp: TcpStream) -> Result<TlsStream, rustls::Error> {
        let config = Arc::clone(&self.0.borrow());
        let session = RefCell::new(ServerConnection::new(config)?);
        Ok(TlsStream { tcp, session, decrypted: Cell::new(0), is_write_closed: Cell::new(false) })
    }
}
