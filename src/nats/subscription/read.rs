//! Read: one subscription, for as long as it lives. It waits for nobody: what does not fit is dropped, and said so.

use std::future::poll_fn;
use std::rc::Rc;

use async_nats::Subscriber;
use futures_util::FutureExt;
use futures_util::StreamExt;
use tracing::debug;

use crate::nats::NatsError;
use crate::nats::subscription::Incoming;
use crate::nats::subscription::Shared;
use crate::nats::subscription::SubscriptionKey;
use crate::nats::subscription::overrun::Overruns;
use crate::nats::subscription::queue::Hole;
use crate::nats::subscription::readers::Place;
use crate::protocol::subject::Pattern;

/// Messages that one subscription may hand over before others have their turn. Below the 128 after which tokio lets
/// any channel look empty.
const TURN: usize = 64;

/// Says that nobody reads any more, whatever the reason.
struct Reading {
    shared: Rc<Shared>,
    key: SubscriptionKey,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.shared.queue.push(Incoming::Ended(self.key));
    }
}

/// Reads one subscription until it is cancelled.
pub(super) async fn read(shared: Rc<Shared>, pattern: Pattern, key: SubscriptionKey) {
    let nats = &shared.nats;
    let denials = nats.signals.denials.count();
    let mut subscriber = match nats.client.subscribe(pattern.as_str().to_owned()).await {
        Ok(subscriber) => subscriber,
        Err(error) => {
            return shared.queue.push(Incoming::Failed(key, NatsError::Refused(error.to_string())));
        }
    };
    let _reading = Reading { shared: Rc::clone(&shared), key };
    shared.unsettled.add(key, pattern.clone(), denials);
    let place = shared.readers.enter(key).await;
    let mut hole = Hole::default();
    let mut overruns = Overruns::new(nats.subscription_capacity, nats.dropped());
    while let Some(mut message) = next(&mut subscriber, &place, &mut overruns).await {
        overruns.goes_on(nats.dropped());
        let mut overrun = overruns.took();
        for left in (0..TURN).rev() {
            #[cfg(feature = "test-hooks")]
            crate::hooks::panic_on(&message.payload, "panic in read");
            shared.queue.push_message(key, message.into(), &mut hole);
            if overrun {
                shared.queue.push(Incoming::Overrun(key));
            }
            if left == 0 {
                overruns.waits();
                tokio::task::yield_now().await;
                overruns.goes_on(nats.dropped());
                break;
            }
            match subscriber.next().now_or_never() {
                Some(Some(next)) => message = next,
                // Empty, or over: whoever asks again learns which.
                Some(None) | None => break,
            }
            overrun = overruns.took();
        }
        #[cfg(feature = "test-hooks")]
        {
            overruns.waits();
            nats.hooks.reader.pass(nats.lane).await;
            overruns.goes_on(nats.dropped());
        }
    }
    debug!(subject = %pattern, "subscription ended");
}

/// The next message, once there is one.
async fn next(
    subscriber: &mut Subscriber,
    place: &Place,
    overruns: &mut Overruns,
) -> Option<async_nats::Message> {
    poll_fn(|context| {
        let next = subscriber.poll_next_unpin(context);
        if next.is_pending() {
            place.caught_up();
            overruns.emptied();
        }
        next
    })
    .await
}
