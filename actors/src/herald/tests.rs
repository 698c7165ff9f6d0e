//! The Herald over a broker in memory, with lines below it that say what the test wants, under paused time.
#![expect(clippy::unwrap_used, reason = "tests")]

mod floor;
mod receipts;
mod states;
