//! How full the store is, and who is told: the log when that gets worse, the pages as long as it is so.

use super::{Keep, Store};

/// From here on the store is said to fill up, in percent.
const FILLING_PERCENT: u8 = 80;

/// How much room there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// Enough.
    #[default]
    Enough,
    /// It fills up.
    Little,
    /// Readings are refused.
    None,
}

/// How full the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    /// How much room there is.
    pub(crate) room: Room,
    /// Bytes of the readings, of those that there may be, in percent.
    pub(crate) percent: u8,
}

impl Store {
    /// Tells readers how full the store is, and the log if that got worse. `refused` is whether a reading just found no room.
    pub(super) fn tell_fill(&self, disk_has_room: bool, refused: bool) {
        let max = u128::from(self.limits.stored_bytes_max.max(1));
        let percent = u8::try_from((u128::from(self.meta.bytes) * 100 / max).min(100)).unwrap_or(100);
        // Where the oldest readings go, a full store is nothing to worry about.
        let filling = percent >= FILLING_PERCENT && self.limits.keep != Keep::Newest;
        let room = match (refused || !disk_has_room, filling) {
            (true, _) => Room::None,
            (false, true) => Room::Little,
            (false, false) => Room::Enough,
        };
        let mut shared = self.shared.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = std::mem::replace(&mut shared.fill, Fill { room, percent });
        drop(shared);
        if room <= before.room {
            return;
        }
        match room {
            Room::None if !disk_has_room => tracing::error!("the disk is full: readings are refused until it has room"),
            Room::None => tracing::error!(
                percent,
                "the store has no room: readings are refused, and gateways keep them; see --max-size and --keep"
            ),
            Room::Little => tracing::warn!(
                percent,
                "the store fills up; when it is full, readings are refused: see --max-size and --keep"
            ),
            Room::Enough => {}
        }
    }
}
