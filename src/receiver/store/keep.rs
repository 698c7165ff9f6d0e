//! Which readings are kept, and which ids are remembered.
//!
//! Readings age by the store's own clock, the outbox's `CustodyClock`: it runs with the monotonic clock, and over a stop by the wall
//! clock where that was to be believed before and after. A board that starts in 1970 and is set to today ages nothing by that.
//! Cleaning up rides on commits: what is old goes when something new comes.

use super::{
    Draft, OVERHEAD_BYTES, Store, StoreError,
    keys::{self, Key},
    records::{self, ReadingRecord},
};
use jiff::SignedDuration;
use std::str::FromStr;
use tidegate_schemas::{config::parse_duration, custody::CustodyTime};

/// Old ids and old readings that one commit removes, each: cleaning up never holds a commit up for long.
const CLEANUP_MAX: usize = 512;
/// What is kept free for the next commit where the oldest readings go, as a part of the whole.
const FREE_PART: u64 = 16;
/// The same, at most, in bytes: the largest request.
const FREE_BYTES_MAX: u64 = 1024 * 1024;
/// Shortest time for which readings may be kept, in seconds: a gateway that sends one again must find it.
const KEEP_S_MIN: i64 = 3_600;

/// Which readings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// All; a full store refuses what is new.
    #[default]
    Forever,
    /// Those that came within this time; a full store refuses what is new.
    For(SignedDuration),
    /// The newest: where there is no room, the oldest go.
    Newest,
}

/// Why a text is no [`Keep`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write \"forever\", \"newest\", or a length of time from 1h on, such as \"90d\"")]
pub struct ParseKeepError;

impl FromStr for Keep {
    type Err = ParseKeepError;

    fn from_str(text: &str) -> Result<Self, ParseKeepError> {
        match text {
            "forever" => Ok(Self::Forever),
            "newest" => Ok(Self::Newest),
            length => parse_duration(length)
                .ok()
                .filter(|length| length.as_secs() >= KEEP_S_MIN)
                .map(Self::For)
                .ok_or(ParseKeepError),
        }
    }
}

impl Store {
    /// Forgets the oldest ids where there are too many.
    pub(super) fn forget_ids(&mut self, draft: &mut Draft) -> Result<(), StoreError> {
        for item in self.db.scan_prefix(Key::ID_ORDER).take(CLEANUP_MAX) {
            if self.meta.ids < self.limits.memory_ids_max {
                break;
            }
            let (order_key, id_key) = item.map_err(StoreError::sled("reading remembered ids"))?;
            draft.batch.remove(order_key);
            draft.batch.remove(id_key);
            self.meta.ids = self.meta.ids.saturating_sub(1);
        }
        Ok(())
    }

    /// Removes the readings that are no longer kept. `incoming` is what the readings to come may take.
    pub(super) fn remove_old_readings(&mut self, incoming: u64, draft: &mut Draft) -> Result<(), StoreError> {
        if self.limits.keep == Keep::Forever {
            return Ok(());
        }
        for item in self.db.scan_prefix(Key::READING).take(CLEANUP_MAX) {
            let (key, value) = item.map_err(StoreError::sled("reading old readings"))?;
            let Some(sequence) = keys::sequence(&key) else { continue };
            let Some(record) = records::read::<ReadingRecord>(&key, &value) else {
                // Nothing is known of a damaged record but its key.
                draft.batch.remove(key);
                self.meta.readings = self.meta.readings.saturating_sub(1);
                continue;
            };
            if !self.must_go(&record, incoming, &draft.time) {
                break;
            }
            self.remove(sequence, &record, draft);
        }
        Ok(())
    }

    fn must_go(&self, record: &ReadingRecord, incoming: u64, time: &CustodyTime) -> bool {
        match self.limits.keep {
            Keep::Forever => false,
            Keep::For(length) => u128::from(time.age_ms(record.clock_ms)) > length.as_millis().unsigned_abs(),
            Keep::Newest => {
                let max = self.limits.stored_bytes_max;
                let free = (max / FREE_PART).min(FREE_BYTES_MAX).max(incoming);
                // What can never fit is no reason to remove anything.
                incoming <= max && self.meta.bytes.saturating_add(free) > max
            }
        }
    }

    fn remove(&mut self, sequence: u64, record: &ReadingRecord, draft: &mut Draft) {
        draft.batch.remove(Key::Reading(sequence).bytes());
        draft.batch.remove(Key::OfDevice(record.device, sequence).bytes());
        for index in 0..record.chunks() {
            draft.batch.remove(Key::Chunk(sequence, index).bytes());
        }
        self.meta.readings = self.meta.readings.saturating_sub(1);
        self.meta.bytes = self.meta.bytes.saturating_sub(u64::from(record.body_bytes) + OVERHEAD_BYTES);
        let Some(device) = self.devices.get_mut(&record.device) else { return };
        device.readings = device.readings.saturating_sub(1);
        draft.devices.insert(record.device);
        if device.readings == 0 {
            let gone = self.devices.remove(&record.device);
            self.device_numbers.remove(&gone.and_then(|device| device.name));
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_kept_is_said_in_words_or_as_a_length_of_time() {
        assert_eq!("forever".parse(), Ok(Keep::Forever));
        assert_eq!("newest".parse(), Ok(Keep::Newest));
        assert_eq!("90d".parse::<Keep>().unwrap(), Keep::For(SignedDuration::from_hours(90 * 24)));
        for wrong in ["", "0s", "59m", "3 months", "-1d", "always"] {
            assert_eq!(wrong.parse::<Keep>(), Err(ParseKeepError), "{wrong}");
        }
    }
}
