//! The wall clock. Everything that measures a length of time uses tokio's monotonic clock instead.

use jiff::Timestamp;

/// Wall-clock time, and whether to believe it.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Whether the wall clock can be right: never before the build date of this program (a board without a battery clock boots in
    /// 1970).
    fn trusted(&self) -> bool;
}
