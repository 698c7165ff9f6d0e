//! When each destination is looked at next: an index by time, so that a round costs what is due and not what exists.

use std::collections::{BTreeSet, HashMap};
use tidegate_schemas::id::DestinationId;
use tokio::time::Instant;

/// One next look at most for each destination.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    by_time: BTreeSet<(Instant, DestinationId)>,
    of: HashMap<DestinationId, Instant>,
}

impl Wakes {
    /// Sets the next look of a destination, in place of an earlier one; none: it changes by nothing but news.
    pub fn set(&mut self, id: &DestinationId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.of.insert(id.clone(), at),
            None => self.of.remove(id),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, id.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, id.clone()));
        }
    }

    /// Takes those whose time has come.
    pub fn due(&mut self, now: Instant) -> Vec<DestinationId> {
        let mut due = Vec::new();
        while self.by_time.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, id)) = self.by_time.pop_first() {
                self.of.remove(&id);
                due.push(id);
            }
        }
        due
    }

    /// When the next one comes.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn each_has_one_next_look_and_is_taken_once() {
        let (mut wakes, now) = (Wakes::default(), Instant::now());
        let after = |s| Some(now + Duration::from_secs(s));
        let (ward, lab): (DestinationId, DestinationId) = ("ward".parse().unwrap(), "lab".parse().unwrap());
        wakes.set(&ward, after(10));
        wakes.set(&lab, after(5));
        wakes.set(&ward, after(3));
        assert_eq!((wakes.next(), wakes.due(now)), (after(3), vec![]));
        assert_eq!(wakes.due(after(5).unwrap()), [ward.clone(), lab.clone()]);
        assert_eq!(wakes.next(), None);
        wakes.set(&lab, after(7));
        wakes.set(&lab, None);
        assert_eq!(wakes.due(after(100).unwrap()), Vec::<DestinationId>::new());
    }
}
