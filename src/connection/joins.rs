//! Joins that a shard asks lanes for: when a lane has too many questions they wait here, in order, and nobody is refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::connection::context::Context;
use crate::lane::Question;
use crate::lane::feeds::Join;

/// The joins that wait for each lane that has no room. There is one for each pattern and format that sessions of the shard
/// wait for, and so at most as many as they have subscriptions.
#[derive(Debug, Default)]
pub(super) struct Joins(RefCell<HashMap<usize, VecDeque<Join>>>);

impl Joins {
    /// Asks a lane, behind those that wait for it.
    pub(super) fn ask(&self, context: &Rc<Context>, lane: usize, join: Join) {
        if let Some(waiting) = self.0.borrow_mut().get_mut(&lane) {
            return waiting.push_back(join);
        }
        let Some(handle) = context.lanes.get(lane) else { return };
        if let Err(Question::Join(join)) = handle.ask(Question::Join(join)) {
            self.0.borrow_mut().insert(lane, VecDeque::from([join]));
            context.tasks.spawn_local(ask_waiting(Rc::clone(context), lane));
        }
    }

    fn next(&self, lane: usize) -> Option<Join> {
        let mut joins = self.0.borrow_mut();
        let next = joins.get_mut(&lane)?.pop_front();
        if next.is_none() {
            joins.remove(&lane);
        }
        next
    }
}

/// Asks a lane for all that waits for it, as it has room.
async fn ask_waiting(context: Rc<Context>, lane: usize) {
    let Some(handle) = context.lanes.get(lane).cloned() else { return };
    while let Some(join) = context.joins.next(lane) {
        let is_wanted = context.hub.borrow().waits(&join.pattern, join.format);
        if is_wanted {
            // A lane that has ended takes its shard with it.
            let _ = handle.ask_when_free(Question::Join(join)).await;
        } else {
            // All who wanted it have left meanwhile: there is no answer to wait for.
            let forgotten = {
                let mut hub = context.hub.borrow_mut();
                hub.unjoined(&join.pattern, join.format);
                hub.forget(&join.pattern)
            };
            if forgotten {
                context.leave(join.pattern);
            }
        }
    }
}
