//! The thread that keeps certificates up to date. It is apart from the listeners, because it reads files and makes keys.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::tls::TlsConfig;
#[cfg(feature = "acme")]
use crate::net::acme::AcmeClient;
#[cfg(feature = "acme")]
use crate::net::tls::certificate::Certificate;
use crate::net::tls::reloader::TlsReloader;

/// Starts the thread, which ends with `stop`. `request` asks for a reload of the files.
pub fn start(
    config: &TlsConfig,
    reloader: TlsReloader,
    request: Arc<Notify>,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    // One certificate at a time is enough.
    let (issued, from_authority) = mpsc::channel(1);
    #[cfg(feature = "acme")]
    let orders = orders(config, issued)?;
    #[cfg(not(feature = "acme"))]
    let orders = {
        drop((config, issued));
        std::future::pending::<()>()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime for certificates")?;
    let work = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = reloader.run(request, from_authority) => {}
            () = orders => {}
        }
    };
    let thread = std::thread::Builder::new().name("certificates".to_owned());
    Ok(thread.spawn(move || runtime.block_on(work))?)
}

/// Orders certificates, if the configuration says so; otherwise it waits forever.
#[cfg(feature = "acme")]
fn orders(
    config: &TlsConfig,
    issued: mpsc::Sender<Arc<Certificate>>,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let jitter =
        f64::from(getrandom::u32().context("the system has no random numbers")?) / f64::from(u32::MAX);
    let client = config.acme.as_ref().map(|acme| AcmeClient::new(acme, issued, jitter));
    let client = client.transpose().context("cannot order certificates")?;
    Ok(async move {
        match client {
            Some(client) => client.run().await,
            None => std::future::pending().await,
        }
    })
}
