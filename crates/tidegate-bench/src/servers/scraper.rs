//! `Scraper`: reads `/metrics` of nodes once a second while they are measured, as Prometheus does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

/// The time between two scrapes.
const INTERVAL: Duration = Duration::from_secs(1);

/// A thread that scrapes. It ends when this is dropped.
#[derive(Debug)]
pub struct Scraper {
    counts: Arc<Counts>,
    /// Its end stops the thread. `None` only while this is dropped.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How many scrapes were answered with metrics, and how many were not.
#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Scraper {
    /// Scrapes these admin listeners, at once and then every second. `scrape` returns whether one has answered.
    pub fn start(
        nodes: Vec<SocketAddr>,
        scrape: impl Fn(SocketAddr) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let counts = Arc::<Counts>::default();
        let (running, stopped) = mpsc::channel();
        let counted = Arc::clone(&counts);
        let scraping = move || {
            loop {
                for &node in &nodes {
                    let count = if scrape(node) { &counted.answered } else { &counted.failed };
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("scraper".to_owned()).spawn(scraping)?;
        Ok(Self { counts, running: Some(running), thread: Some(thread) })
    }

    /// How many scrapes were answered, and how many were not.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.answered.load(Ordering::Relaxed), self.counts.failed.load(Ordering::Relaxed))
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.running = None;
        // An error means that it has panicked, which it has reported itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_scraped_at_once_and_what_fails_is_counted() {
        let nodes = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (scraped, seen) = mpsc::channel();
        let scraper = Scraper::start(nodes.to_vec(), move |node| {
            let _ = scraped.send(node);
            node.port() == 1
        })
        .unwrap();
        assert_eq!([seen.recv().unwrap(), seen.recv().unwrap()], nodes);
        let counts = Arc::clone(&scraper.counts);
        drop(scraper);
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        assert_eq!(of(&counts.answered), of(&counts.failed), "the thread has ended after whole rounds");
        assert!(of(&counts.answered) >= 1);
    }
}
