//! How many patterns match the same subject: NATS delivers a publication once for each.

use std::collections::BTreeMap;
use std::str::Split;

use crate::subject::ANY_TAIL;
use crate::subject::ANY_TOKEN;
use crate::subject::Pattern;

/// Whether at least `bound` of the patterns match the same subject within `within`. Each token that is compared uses
/// up one of `steps`; if they run out, the answer is yes. Usual patterns need a few steps each.
pub fn reaches<'p>(
    patterns: impl Iterator<Item = &'p Pattern> + Clone,
    within: &'p Pattern,
    bound: usize,
    steps: &mut usize,
) -> bool {
    // Usually fewer than `bound` patterns overlap `within` at all.
    let overlapping = patterns.filter(|pattern| pattern.overlaps(within));
    overlapping.clone().take(bound).count() == bound && deepest(overlapping, within, bound, steps) >= bound
}

/// The largest number of patterns that match the same subject within `within`, at most `bound`. If the steps run out,
/// the answer is `bound`.
fn deepest<'p>(
    patterns: impl Iterator<Item = &'p Pattern>,
    within: &'p Pattern,
    bound: usize,
    steps: &mut usize,
) -> usize {
    let overlapping = patterns.filter(|pattern| pattern.overlaps(within));
    let rests: Vec<_> = overlapping.map(|pattern| pattern.as_str().split('.')).collect();
    let mut search = Search { bound, best: 0, steps };
    search.descend(rests, Some(within.as_str().split('.')), 0);
    search.best
}

struct Search<'s> {
    bound: usize,
    best: usize,
    steps: &'s mut usize,
}

impl Search<'_> {
    /// `rests` are the remaining tokens of the patterns that match so far. `frame` has the remaining tokens of
    /// `within`, or is `None` after its `>`. `ended` counts the patterns that have reached their `>`, so that they
    /// match anything that follows.
    ///
    /// The recursion is as deep as a pattern has tokens, which is limited for patterns of clients.
    fn descend<'p>(&mut self, rests: Vec<Split<'p, char>>, frame: Option<Split<'p, char>>, ended: usize) {
        if self.best >= self.bound || rests.len() + ended <= self.best {
            return;
        }
        *self.steps = self.steps.saturating_sub(rests.len());
        if *self.steps == 0 {
            self.best = self.bound;
            return;
        }
        // The subject may end here if the `>` of the frame came before.
        let may_end = frame.is_none();
        let mut frame = frame;
        let token = match frame.as_mut().map(Iterator::next) {
            Some(None) => {
                let ending = rests.into_iter().filter_map(|mut rest| rest.next().is_none().then_some(()));
                return self.found(ended + ending.count());
            }
            Some(Some(ANY_TAIL)) => {
                frame = None;
                ANY_TOKEN
            }
            Some(Some(token)) => token,
            None => ANY_TOKEN,
        };
        let (mut ending, mut tails, mut any) = (0, 0, Vec::new());
        let mut literal: BTreeMap<&str, Vec<Split<'p, char>>> = BTreeMap::new();
        for mut rest in rests {
            match rest.next() {
                None => ending += 1,
                Some(ANY_TAIL) => tails += 1,
                Some(ANY_TOKEN) => any.push(rest),
                Some(name) if token == ANY_TOKEN || token == name => {
                    literal.entry(name).or_default().push(rest);
                }
                Some(_) => {}
            }
        }
        if may_end {
            self.found(ended + ending);
        }
        let ended = ended + tails;
        self.found(ended);
        if literal.is_empty() && !any.is_empty() {
            return self.descend(any, frame, ended);
        }
        // Patterns with `*` here match each of these names too, so no other token needs to be tried.
        for (_, mut rests) in literal {
            rests.extend(any.iter().cloned());
            self.descend(rests, frame.clone(), ended);
        }
    }

    fn found(&mut self, depth: usize) {
        self.best = self.best.max(depth.min(self.bound));
    }
}
#[cfg(test)]
mod tests;
