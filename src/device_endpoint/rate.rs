//! How many requests one device, or one address, may make.
//!
//! The config's number a minute, all of which may come at once. Known devices are counted by name, others by address (an IPv6
//! address by its /64, which is what one subscriber has). The table is bounded: when it is full of addresses that were seen within
//! the minute, further ones share one count.

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
};
use tidegate_schemas::id::DeviceId;

/// Most devices and addresses that are counted one by one.
pub const KEYS_MAX: usize = 4_096;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A device with credentials.
    Device(DeviceId),
    /// An address.
    Address(IpAddr),
    /// All others, together.
    Others,
}

impl Key {
    /// The key of an address.
    #[must_use]
    pub fn address(address: Option<IpAddr>) -> Self {
        match address {
            Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(address) => Self::Address(IpAddr::V4(address)),
                None => Self::Address(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))),
            },
            Some(address) => Self::Address(address),
            None => Self::Others,
        }
    }
}

/// The counts.
#[derive(Debug)]
pub struct Rate {
    limiter: DefaultKeyedRateLimiter<Key>,
    keys_max: usize,
}

impl Rate {
    /// This many requests a minute, and at least one.
    #[must_use]
    pub fn per_minute(requests: u32) -> Self {
        let quota = Quota::per_minute(NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN));
        Self { limiter: RateLimiter::keyed(quota), keys_max: KEYS_MAX }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// Seconds to wait, if it is one too many.
    pub fn check(&self, key: Key) -> Result<(), u32> {
        if self.limiter.len() >= self.keys_max {
            self.limiter.retain_recent();
        }
        let key = if self.limiter.len() >= self.keys_max { Key::Others } else { key };
        self.limiter.check_key(&key).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_too_many_is_refused_and_nobody_else_is() {
        let rate = Rate::per_minute(3);
        let a = || Key::Device("a".parse().unwrap());
        assert!((0..3).all(|_| rate.check(a()).is_ok()));
        let wait = rate.check(a()).unwrap_err();
        assert!((1..=21).contains(&wait), "{wait}");
        assert!(rate.check(Key::Device("b".parse().unwrap())).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let key = |text: &str| Key::address(Some(text.parse().unwrap()));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn a_flood_of_addresses_shares_one_count() {
        let rate = Rate { keys_max: 2, ..Rate::per_minute(1) };
        let check = |n: u8| rate.check(Key::address(Some(IpAddr::from([10, 0, 0, n]))));
        assert!(check(1).is_ok() && check(2).is_ok() && check(3).is_ok());
        assert!(check(4).is_err());
        assert!(rate.limiter.len() <= 3);
    }
}
