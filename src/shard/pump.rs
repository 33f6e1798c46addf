//! Pump: a batch from the inbox → hub → one flush for each outbox that changed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::connection::context::Context;
use crate::hub::Effects;
use crate::hub::topic::Listener;
use crate::lane::inbox::Batch;
use crate::lane::inbox::Item;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::publication::Delivery;
use crate::protocol::session::Input;
use crate::protocol::subject::Pattern;

/// Publications and bytes between two flushes, so that a burst does not overflow outboxes whose sockets keep up.
const FLUSH_EVERY: usize = 64;
const FLUSH_BYTES: usize = 256 * 1024;

/// Does everything that a batch says, in order.
pub fn deliver(context: &Rc<Context>, batch: Batch) {
    let now = Instant::now();
    let mut effects = Effects::default();
    let (mut items, mut bytes) = (0, 0);
    for item in batch.items {
        bytes += item.bytes();
        items += 1;
        one(context, item, now, &mut effects);
        if items % FLUSH_EVERY == 0 || bytes >= FLUSH_BYTES {
            bytes = 0;
            context.settle(&mut effects, now);
        }
    }
    context.settle(&mut effects, now);
}

fn one(context: &Rc<Context>, item: Item, now: Instant, effects: &mut Effects) {
    match item {
        Item::Publication { pattern, key, frames } => publish(context, pattern, &key, frames, now, effects),
        Item::Joined { pattern, format, snapshot, stale } => {
            let joined = context.hub.borrow_mut().joined(&pattern, format);
            let input = |listener: &Listener| Input::Joined {
                subscription: listener.subscription,
                snapshot: snapshot.clone(),
                stale,
            };
            tell(context, joined, input, now, effects);
            forget(context, pattern);
        }
        Item::Unjoined { pattern, format, refusal } => {
            let refused = context.hub.borrow_mut().unjoined(&pattern, format);
            let input = |listener: &Listener| Input::Unjoined {
                subscription: listener.subscription,
                refusal: refusal.clone(),
            };
            tell(context, refused, input, now, effects);
            forget(context, pattern);
        }
        Item::Lost { pattern, cause, dropped } => {
            let listeners = context.hub.borrow().listeners(&pattern);
            let input =
                |listener: &Listener| Input::Lost { subscription: listener.subscription, cause, dropped };
            tell(context, listeners, input, now, effects);
        }
        Item::Stale { pattern, since } => {
            let listeners = context.hub.borrow().listeners(&pattern);
            let input = |listener: &Listener| Input::Stale { subscription: listener.subscription, since };
            tell(context, listeners, input, now, effects);
        }
    }
}

/// Tells the lane that an answer came for nobody: those who asked have left meanwhile.
fn forget(context: &Rc<Context>, pattern: Pattern) {
    let forgotten = context.hub.borrow_mut().forget(&pattern);
    if forgotten {
        context.leave(pattern);
    }
}

fn publish(
    context: &Rc<Context>,
    pattern: Pattern,
    key: &Arc<str>,
    frames: Vec<(Format, Frame)>,
    now: Instant,
    effects: &mut Effects,
) {
    #[cfg(feature = "test-hooks")]
    frames.iter().for_each(|(_, frame)| crate::hooks::panic_on(frame.as_bytes(), "panic in pump"));
    let max_age = context.hub.borrow().class(&pattern).and_then(|class| class.max_age);
    let expires = max_age.and_then(|max_age| now.checked_add(max_age));
    let delivery = |frame| Rc::new(Delivery { frame, key: Arc::clone(key), expires });
    let frames: Vec<_> = frames.into_iter().map(|(format, frame)| (format, delivery(frame))).collect();
    let wanted = context.hub.borrow_mut().publish(&pattern, &frames, now, effects);
    if !wanted {
        return context.leave_later(pattern);
    }
    for (outbox, subscription, delivery) in std::mem::take(&mut effects.held) {
        if let Some(connection) = context.connection_of(&outbox) {
            connection.apply(Input::Publication { subscription, delivery }, now);
            effects.note_changed(&outbox, std::time::Duration::ZERO);
        }
    }
}

fn tell(
    context: &Rc<Context>,
    listeners: Vec<Listener>,
    input: impl Fn(&Listener) -> Input,
    now: Instant,
    effects: &mut Effects,
) {
    for listener in listeners {
        if let Some(connection) = context.connection_of(&listener.outbox) {
            connection.apply(input(&listener), now);
            effects.note_changed(&listener.outbox, std::time::Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests;
