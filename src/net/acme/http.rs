//! `AcmeHttp`: an HTTP client for certificate authorities. Each request has its own connection, a deadline, and a limit
//! for the answer.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::Uri;
use hyper::header::HOST;
use hyper::header::HeaderValue;
use instant_acme::BodyWrapper;
use instant_acme::BytesResponse;
use instant_acme::HttpClient;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::net::acme::error::AcmeError;
use crate::net::client_tls::client_with;
use crate::net::client_tls::system_roots;
use crate::net::http_exchange::exchange;
use crate::net::tls::certificate::read_file;
use crate::net::tls::loaded::read_roots;

const TIMEOUT: Duration = Duration::from_secs(30);
/// More than any answer of an authority needs.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
const HTTPS_PORT: u16 = 443;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP client for `https` URLs.
#[derive(Clone)]
pub(super) struct AcmeHttp(TlsConnector);

impl AcmeHttp {
    /// Trusts the CAs in this file, or those of the system.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, AcmeError> {
        let roots = match ca_file {
            Some(file) => {
                let pem = read_file(file).and_then(|pem| read_roots(&pem));
                pem.map_err(AcmeError::DirectoryCa)?
            }
            None => Some(system_roots()).filter(|roots| !roots.is_empty()).ok_or(AcmeError::NoRoots)?,
        };
        let config = client_with(roots).map_err(|error| AcmeError::Key(error.to_string()))?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl HttpClient for AcmeHttp {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let answer = timeout(TIMEOUT, send(&connector, request)).await;
            let answer = answer.unwrap_or_else(|_| Err("it does not answer in time".into()));
            answer.map_err(|error| instant_acme::Error::Other(format!("{host}: {error}").into()))
        })
    }
}

/// Sends a request over a new connection and reads the answer.
async fn send(
    connector: &TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, BoxError> {
    let uri = std::mem::take(request.uri_mut());
    let authority =
        uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or("the URL is not https://")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())?;
    let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(HTTPS_PORT))).await?;
    let tls = connector.connect(name, tcp).await?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    let (parts, body) =
        exchange(tls, request, MAX_ANSWER_BYTES, |_| Ok::<_, BoxError>(())).await?.into_parts();
    Ok(BytesResponse { parts, body: Box::new(Bytes::from(body)) })
}
