//! The limits of the whole gateway: above them nothing is taken, and nothing is acknowledged; what waits goes on being delivered.
//!
//! From [`NEARLY_PERCENT`] on the log and the observation say so, once until there is room again.

use super::core::Core;

/// From here on the gateway is said to fill up, in percent.
const NEARLY_PERCENT: u128 = 80;
/// Below this it has room again, in percent: one message more or less is no news.
const ROOM_AGAIN_PERCENT: u128 = 75;

/// How full the gateway is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Fill {
    /// There is room.
    #[default]
    Room,
    /// There is little.
    Nearly(String),
    /// There is none.
    Full(String),
}

impl Fill {
    /// What there is to tell.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Room => None,
            Self::Nearly(words) | Self::Full(words) => Some(words.clone()),
        }
    }
}

impl Core {
    /// Messages that wait, of all destinations.
    fn waiting(&self) -> u64 {
        let account = &self.meta.account;
        account.queued + account.held + account.parked + account.dead
    }

    /// Why no message of this size can be taken, if that is so, when so many messages and bytes make room for it.
    pub fn gateway_full(&self, body_bytes: u64, displaced: u64, displaced_bytes: u64) -> Option<String> {
        let limits = &self.limits;
        if self.free_bytes.is_some_and(|free| free < limits.min_free_disk) {
            return Some("the disk of the outbox has no room left".into());
        }
        if self.waiting() + 1 > limits.max_messages.saturating_add(displaced) {
            return Some(format!("{} messages wait, as many as outbox.max_messages lets", self.waiting()));
        }
        if self.waiting_bytes + body_bytes > limits.max_bytes.saturating_add(displaced_bytes) {
            return Some(format!(
                "{} bytes wait, of at most {} by outbox.max_bytes",
                self.waiting_bytes, limits.max_bytes
            ));
        }
        None
    }

    /// Looks how full the gateway is, and says so in the log when that has changed.
    pub fn look_at_room(&mut self) {
        let limits = &self.limits;
        let threshold = if self.fill == Fill::Room { NEARLY_PERCENT } else { ROOM_AGAIN_PERCENT };
        let reached = |part: u64, whole: u64| u128::from(part) * 100 >= u128::from(whole) * threshold;
        let words =
            if self.free_bytes.is_some_and(|free| reached(limits.min_free_disk, free) && limits.min_free_disk > 0) {
                let free = self.free_bytes.unwrap_or_default();
                Some(format!(
                    "the disk of the outbox has {free} bytes left; from {} on nothing is taken",
                    limits.min_free_disk
                ))
            } else if reached(self.waiting(), limits.max_messages) {
                Some(format!("{} messages wait, of at most {}", self.waiting(), limits.max_messages))
            } else if reached(self.waiting_bytes, limits.max_bytes) {
                Some(format!("{} bytes wait, of at most {}", self.waiting_bytes, limits.max_bytes))
            } else {
                None
            };
        let fill = match (self.gateway_full(0, 0, 0), words) {
            (Some(full), _) => Fill::Full(full),
            (None, Some(words)) => Fill::Nearly(words),
            (None, None) => Fill::Room,
        };
        match (&self.fill, &fill) {
            (Fill::Room | Fill::Nearly(_), Fill::Full(words)) => {
                tracing::error!(
                    reason = words,
                    "the gateway is full: nothing is taken or acknowledged until there is room"
                );
            }
            (Fill::Room, Fill::Nearly(words)) => {
                tracing::warn!(
                    reason = words,
                    "the gateway fills up; when it is full, nothing is taken or acknowledged"
                );
            }
            (Fill::Nearly(_) | Fill::Full(_), Fill::Room) => tracing::info!("the gateway has room again"),
            _ => {}
        }
        self.fill = fill;
    }
}
