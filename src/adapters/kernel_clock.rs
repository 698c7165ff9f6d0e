//! The kernel's word on its clock: whether a time daemon keeps it.
//!
//! By `adjtimex`, which needs no right to be read, and takes less than a microsecond. A time daemon (chrony, systemd-timesyncd, ntpd,
//! a virtual machine's agent) tells the kernel how far the clock may be off; the kernel lets that error grow for as long as it hears
//! nothing, and forgets it whenever somebody else sets the clock. So the word is as fresh as it is asked for.
//!
//! Where the call is not allowed (some sandboxes) the word is unknown, which is no error: somebody else may vouch.

use rtime_clock::adjtime::{Timex, adjtimex};
use tidegate_schemas::clock::KernelWord;

/// The error, in microseconds, at which the kernel gives up: nobody keeps the clock, or nobody has for hours. The flag
/// `STA_UNSYNC` says less: some daemons leave it set on purpose, so that the kernel leaves the battery clock alone.
const ERROR_MAX_US: i32 = 16_000_000;

/// What the kernel says now.
#[must_use]
pub fn word() -> KernelWord {
    let mut timex = Timex::new();
    match adjtimex(&mut timex) {
        Ok(_) if timex.0.maxerror < ERROR_MAX_US.into() => KernelWord::Synchronised,
        Ok(_) => KernelWord::Unsynchronised,
        Err(_) => KernelWord::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_the_same_twice() {
        // What it says depends on the machine; that it can be asked does not.
        assert_eq!(word(), word());
    }
}
