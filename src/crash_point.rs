//! Crash points: the moments between two steps of custody at which a process may end, a step may fail, or take long.
//!
//! `make torture-points` starts the gateway with one of them armed (`TIDEGATE_TESTNET_CRASH_POINT=POINT:ACTION:NTH`), again and again, and
//! looks whether anything was lost, doubled or out of order. They are there in builds with the feature `testnet` alone; in every other
//! build a point does nothing.
//!
//! A step that can fail asks [`hit`] and fails as it would by itself; one that can't calls [`reach`], where a failure is a panic.

/// The points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// A publication came from the broker; nobody has it yet.
    PublicationReceived,
    /// It is in custody; the broker has not heard.
    BeforeAcknowledgement,
    /// The acknowledgement was handed to the connection.
    AfterAcknowledgement,
    /// A commit begins: nothing is written.
    CommitBegun,
    /// The database has taken the batch; it is not on disk (redb: the transaction is not committed).
    CommitWritten,
    /// The database has flushed it; the file is not synced.
    CommitFlushed,
    /// It is on disk; nobody has heard.
    CommitSynced,
    /// The checkpoint says so.
    CheckpointWritten,
    /// A new generation is begun.
    GenerationMade,
    /// Nearly everything is copied into it.
    GenerationCopied,
    /// It holds everything, on disk; the marker names the old one.
    GenerationSynced,
    /// The new marker is written beside the old one.
    MarkerDrafted,
    /// The new marker has the name; the folder is not synced.
    MarkerReplaced,
    /// Commits go into the new generation; the old one is still there.
    GenerationReplaced,
    /// A request to a destination is about to be sent.
    DeliveryBegun,
    /// The destination has answered; nobody has heard.
    DeliveryAnswered,
    /// Ended messages are written to the ledger's file, not synced.
    LedgerWritten,
    /// They are on disk there; the outbox has not heard.
    LedgerSynced,
    /// A report to the room is about to be sent.
    ReportBegun,
    /// The homeserver has it; the outbox has not heard.
    ReportSent,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::PublicationReceived,
        Self::BeforeAcknowledgement,
        Self::AfterAcknowledgement,
        Self::CommitBegun,
        Self::CommitWritten,
        Self::CommitFlushed,
        Self::CommitSynced,
        Self::CheckpointWritten,
        Self::GenerationMade,
        Self::GenerationCopied,
        Self::GenerationSynced,
        Self::MarkerDrafted,
        Self::MarkerReplaced,
        Self::GenerationReplaced,
        Self::DeliveryBegun,
        Self::DeliveryAnswered,
        Self::LedgerWritten,
        Self::LedgerSynced,
        Self::ReportBegun,
        Self::ReportSent,
    ];

    /// Its name, as the environment has it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Comes by a point at a step that can fail.
///
/// # Errors
/// When the point is armed to fail.
#[cfg(not(feature = "testnet"))]
#[inline]
pub fn hit(_: CrashPoint) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "testnet")]
pub use armed::hit;

/// Comes by a point at a step that can't fail.
///
/// # Panics
/// When the point is armed to fail.
#[inline]
pub fn reach(point: CrashPoint) {
    if let Err(error) = hit(point) {
        std::panic::panic_any(error.to_string());
    }
}

#[cfg(feature = "testnet")]
mod armed {
    //! The point that the environment has armed, if it has.

    use super::CrashPoint;
    use std::{
        env, io,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
        thread,
        time::Duration,
    };

    const VARIABLE: &str = "TIDEGATE_TESTNET_CRASH_POINT";
    /// How long a delay is: longer than what follows takes, shorter than what waits for it.
    const DELAY: Duration = Duration::from_millis(700);

    struct Armed {
        point: String,
        action: String,
        /// The armed visit, from 1; visits before it pass.
        visit: u64,
        visits: AtomicU64,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED.get_or_init(|| parse(&env::var(VARIABLE).ok()?)).as_ref()
    }

    fn parse(text: &str) -> Option<Armed> {
        let mut words = text.split(':').map(str::to_owned);
        let (point, action) = (words.next()?, words.next()?);
        let visit = words.next().and_then(|text| text.parse().ok()).unwrap_or(1);
        Some(Armed { point, action, visit, visits: AtomicU64::new(0) })
    }

    /// Comes by a point at a step that can fail.
    ///
    /// # Errors
    /// When the point is armed to fail.
    pub fn hit(point: CrashPoint) -> io::Result<()> {
        let Some(armed) = armed().filter(|armed| armed.point == point.name()) else { return Ok(()) };
        if armed.visits.fetch_add(1, Ordering::SeqCst) + 1 != armed.visit {
            return Ok(());
        }
        tracing::warn!(point = armed.point, action = armed.action, "a crash point was hit");
        match armed.action.as_str() {
            "exit" => {
                // As kill -9: nothing is run that a crash would not run.
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                Ok(())
            }
            "delay" => {
                thread::sleep(DELAY);
                Ok(())
            }
            _ => Err(io::Error::other("an armed crash point")),
        }
    }
}
