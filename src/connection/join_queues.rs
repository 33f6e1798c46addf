//! `JoinQueues`: joins that wait because a lane's request queue is full. Lanes get them in order, and none is rejected.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;

use crate::lane::feeds::Join;
use crate::lane::lane_index::LaneIndex;

/// The waiting joins of each lane whose queue is full. Each pattern and format is queued once, so the queues are never
/// longer than the sessions of this shard have subscriptions.
#[derive(Debug, Default)]
pub(super) struct JoinQueues(RefCell<HashMap<LaneIndex, VecDeque<Join>>>);

impl JoinQueues {
    /// Adds a join to a lane's queue. Returns it if the lane has no queue: then it can be sent at once.
    pub(super) fn add(&self, lane: LaneIndex, join: Join) -> Option<Join> {
        match self.0.borrow_mut().get_mut(&lane) {
            Some(waiting) => {
                waiting.push_back(join);
                None
            }
            None => Some(join),
        }
    }

    /// Starts a lane's queue with its first join.
    pub(super) fn begin(&self, lane: LaneIndex, join: Join) {
        self.0.borrow_mut().insert(lane, VecDeque::from([join]));
    }

    /// Takes the oldest join of a lane. `None` removes the lane's queue.
    pub(super) fn next(&self, lane: LaneIndex) -> Option<Join> {
        let mut queues = self.0.borrow_mut();
        let next = queues.get_mut(&lane)?.pop_front();
        if next.is_none() {
            queues.remove(&lane);
        }
        next
    }
}
