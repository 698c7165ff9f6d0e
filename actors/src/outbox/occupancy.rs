//! What each device has waiting at each destination, and how fast it hands in: in memory alone.
//!
//! The counts of a destination are made by one scan of its entries, when an agreement first asks for them, and kept right by
//! `Core::count` from then on. There is at most one for each message that waits; those of other destinations are forgotten above
//! [`DEVICES_MAX`], and made again when they are asked for.
//!
//! A rate is a bucket that holds a minute's worth and fills by the custody clock. A restart fills every bucket. At most
//! [`BUCKETS_MAX`] are kept; where more devices than that are at work within a minute, all buckets are full again: it errs towards taking.

use super::core::Core;
use std::collections::HashMap;
use tidegate_schemas::{
    entry::{EntryState, Envelope},
    id::DeviceId,
    messages::outbox::StoreError,
    record::{self, EntryRecord, key},
};

/// Devices that are counted, over all destinations.
const DEVICES_MAX: usize = 100_000;
/// Devices whose rate is remembered.
const BUCKETS_MAX: usize = 65_536;
/// Entries read at a time.
const SLICE: usize = 256;
/// A minute, in microseconds.
const MINUTE_US: u64 = 60_000_000;

/// What one device has waiting at one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Messages that wait.
    pub messages: u64,
    /// Their bodies, in bytes.
    pub bytes: u64,
    /// None of its queued entries has a lower place.
    pub first_queued: u64,
}

/// Of all devices.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    shares: HashMap<u32, HashMap<DeviceId, Share>>,
}

impl Occupancy {
    /// What a device has waiting, where its destination is counted.
    pub fn share(&self, number: u32, device: &DeviceId) -> Option<Share> {
        self.shares.get(&number).map(|devices| devices.get(device).copied().unwrap_or_default())
    }

    /// Keeps the counts right.
    pub fn count(&mut self, number: u32, seq: u64, envelope: &Envelope, from: Option<EntryState>, to: EntryState) {
        let Some(devices) = self.shares.get_mut(&number) else { return };
        let share = devices.entry(envelope.device.clone()).or_default();
        let bytes = u64::from(envelope.body_bytes);
        if from.is_none() {
            share.messages += 1;
            share.bytes += bytes;
            if share.messages == 1 {
                share.first_queued = seq;
            }
        } else if to.is_end() {
            share.messages = share.messages.saturating_sub(1);
            share.bytes = share.bytes.saturating_sub(bytes);
        }
        if to == EntryState::Queued {
            share.first_queued = share.first_queued.min(seq);
        } else if from == Some(EntryState::Queued) && share.first_queued == seq {
            share.first_queued = seq + 1;
        }
        if share.messages == 0 {
            devices.remove(&envelope.device);
        }
    }

    /// None of a device's queued entries has a lower place than this.
    pub fn begins_at(&mut self, number: u32, device: &DeviceId, seq: u64) {
        if let Some(share) = self.shares.get_mut(&number).and_then(|devices| devices.get_mut(device)) {
            share.first_queued = share.first_queued.max(seq);
        }
    }

    /// Forgets a destination, or all.
    pub fn forget(&mut self, number: Option<u32>) {
        match number {
            Some(number) => drop(self.shares.remove(&number)),
            None => self.shares.clear(),
        }
    }
}

impl Core {
    /// What a device has waiting at a destination.
    pub fn share_of(&mut self, number: u32, device: &DeviceId) -> Result<Share, StoreError> {
        if let Some(share) = self.occupancy.share(number, device) {
            return Ok(share);
        }
        if self.occupancy.shares.values().map(HashMap::len).sum::<usize>() > DEVICES_MAX {
            self.occupancy.forget(None);
        }
        let mut devices: HashMap<DeviceId, Share> = HashMap::new();
        let ranges = [
            (key::queued(number, 0), key::queued(number, u64::MAX)),
            (key::aside(number, 0), key::aside(number, u64::MAX)),
        ];
        for (mut from, to) in ranges {
            loop {
                let (slice, next) = self.scan(&from, &to, SLICE)?;
                for (at, value) in slice {
                    // A damaged one is set aside by whoever wants to deliver it.
                    let Ok(entry) = record::decode::<EntryRecord>(&at, &value) else { continue };
                    let share = devices
                        .entry(entry.envelope.device)
                        .or_insert(Share { first_queued: u64::MAX, ..Share::default() });
                    share.messages += 1;
                    share.bytes += u64::from(entry.envelope.body_bytes);
                    if entry.state == EntryState::Queued {
                        share.first_queued = share.first_queued.min(key::seq_of(&at).unwrap_or_default());
                    }
                }
                match next {
                    Some(next) => from = next,
                    None => break,
                }
            }
        }
        let share = devices.get(device).copied().unwrap_or_default();
        self.occupancy.shares.insert(number, devices);
        Ok(share)
    }
}

/// How fast each device hands in.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// When the bucket is full again, by the custody clock in microseconds.
    full_at_us: HashMap<(u32, DeviceId), u64>,
}

impl Rates {
    /// How long until a device may hand in one more, in milliseconds; 0 when it may now.
    pub fn wait_ms(&self, number: u32, device: &DeviceId, now_ms: u64, per_minute: u32) -> u64 {
        let now_us = now_ms.saturating_mul(1_000);
        let full_at_us = self.full_at_us.get(&(number, device.clone())).copied().unwrap_or_default();
        let room_us = MINUTE_US - MINUTE_US / u64::from(per_minute.max(1));
        full_at_us.saturating_sub(now_us).saturating_sub(room_us).div_ceil(1_000)
    }

    /// It handed in one more.
    pub fn take(&mut self, number: u32, device: &DeviceId, now_ms: u64, per_minute: u32) {
        let now_us = now_ms.saturating_mul(1_000);
        if self.full_at_us.len() >= BUCKETS_MAX {
            self.full_at_us.retain(|_, full_at_us| *full_at_us > now_us);
        }
        if self.full_at_us.len() >= BUCKETS_MAX {
            self.full_at_us.clear();
        }
        let full_at_us = self.full_at_us.entry((number, device.clone())).or_default();
        *full_at_us = (*full_at_us).max(now_us) + MINUTE_US / u64::from(per_minute.max(1));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_minutes_worth_comes_at_once_and_then_one_by_one() {
        let (mut rates, device) = (Rates::default(), "pacemaker".parse().unwrap());
        for _ in 0..6 {
            assert_eq!(rates.wait_ms(1, &device, 5_000, 6), 0);
            rates.take(1, &device, 5_000, 6);
        }
        assert_eq!(rates.wait_ms(1, &device, 5_000, 6), 10_000);
        assert_eq!(rates.wait_ms(2, &device, 5_000, 6), 0, "another destination");
        assert_eq!(rates.wait_ms(1, &device, 14_999, 6), 1);
        assert_eq!(rates.wait_ms(1, &device, 15_000, 6), 0);
        rates.take(1, &device, 15_000, 6);
        assert_eq!(rates.wait_ms(1, &device, 15_000, 6), 10_000);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let mut rates = Rates::default();
        for n in 0..=BUCKETS_MAX {
            rates.take(1, &format!("d{n}").parse().unwrap(), 0, 60);
        }
        assert!(rates.full_at_us.len() <= BUCKETS_MAX);
    }
}
