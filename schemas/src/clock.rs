//! Whether the wall clock is to be believed, and why: a pure judgement of what is known.
//!
//! Windows are opened by the wall clock, so a wrong one would send at an hour that nobody agreed to. A board without a battery clock
//! boots in 1970, or where it was switched off; an operator or a time server sets it. So it is believed only when somebody vouches
//! for it ([`ClockEvidence::judge`]). In this order, the first that applies decides:
//!
//! 1. **Before the build date** of this program: not believed, whoever says what.
//! 2. **Apart from Tor** by more than [`APART_MAX`]: an alarm, and not believed, whoever else vouches: one of the two is wrong, and a
//!    consensus is signed by a majority of the directory authorities. `clock.trust = "assume"` doesn't silence it either: it stands in
//!    for a missing word, not against one.
//! 3. **The kernel says that it is synchronised**: believed. The kernel takes that back whenever anybody but the time daemon sets the
//!    clock, so after a jump its word is as good as before.
//! 4. **Within Tor's consensus times**: believed, if the consensus was fetched by this process, and after the last jump.
//! 5. **A jump**, and nobody has vouched since: not believed; with `assume` for [`ASSUMED_AFTER_JUMP`].
//! 6. **Assumed** by the config: believed. 7. Else **nobody vouches**: not believed.
//!
//! **What a consensus says.** It is signed, and valid from `valid_after` to `valid_until` (three hours on the public network). One
//! that was *fetched* a while ago says that the true time lies between the two, plus that while by the monotonic clock: it is
//! carried forward, so a Tor that was away for days still vouches, and still contradicts. One that came from the cache on the disk
//! may be as old as the last stop (the clock of a board may have stood still with it): it only says that the true time is not before
//! its `valid_after`. arti refuses a consensus that is a day or more from its own clock, so a clock that is further off than that
//! shows as nobody's word.
//!
//! **What remains.** Tor's word is coarse: a clock may be wrong by up to the validity of a consensus. A directory cache that lies can
//! hand out an old consensus, as long as it is newer than the one in our cache. A machine that slept has a monotonic clock that missed
//! it, so that Tor seems to contradict until it has fetched the next one.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How far the wall clock may lie outside Tor's times.
pub const APART_MAX: SignedDuration = SignedDuration::from_mins(30);
/// How long after a jump a clock that is merely assumed is not believed: as long as the custody clock doubts it.
pub const ASSUMED_AFTER_JUMP: Duration = Duration::from_secs(3_600);

/// `clock.trust`: what holds when nobody vouches for the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustPolicy {
    /// It is not believed.
    #[default]
    Auto,
    /// It is: for networks without a time server.
    Assume,
}

/// What the kernel says of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelWord {
    /// A time daemon keeps it, and its error is known to be small.
    Synchronised,
    /// Nobody does.
    Unsynchronised,
    /// It could not be asked.
    Unknown,
}

/// The times of a consensus of the Tor network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsensusTimes {
    /// From when it holds.
    pub valid_after: Timestamp,
    /// Until when it holds.
    pub valid_until: Timestamp,
    /// Whether this process got it from the network; else it lay in the cache and may be old.
    pub fetched: bool,
}

/// A consensus, and for how long it has been known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsensusSeen {
    /// Its times.
    pub times: ConsensusTimes,
    /// By the monotonic clock.
    pub ago: Duration,
}

impl ConsensusSeen {
    /// How the wall clock lies to the time that this consensus, carried forward, tells.
    fn says_of(&self, wall: Timestamp) -> ConsensusSays {
        let ago = SignedDuration::try_from(self.ago).unwrap_or(SignedDuration::MAX);
        // Differences, because these can't leave the range of a time.
        let behind = wall.duration_since(self.times.valid_after) < ago.saturating_sub(APART_MAX);
        let ahead = wall.duration_since(self.times.valid_until) > ago.saturating_add(APART_MAX);
        match self.times.fetched {
            _ if behind => ConsensusSays::Wrong,
            true if ahead => ConsensusSays::Wrong,
            true => ConsensusSays::Right,
            false => ConsensusSays::Nothing,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConsensusSays {
    Right,
    Wrong,
    Nothing,
}

/// All that is known of the wall clock at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockEvidence {
    /// What it shows.
    pub wall: Timestamp,
    /// The day of this version of the program.
    pub built: Timestamp,
    /// The kernel's word.
    pub kernel: KernelWord,
    /// The newest consensus of Tor.
    pub consensus: Option<ConsensusSeen>,
    /// How long ago, by the monotonic clock, it last jumped while this process looked.
    pub jumped_ago: Option<Duration>,
    /// The config's word.
    pub policy: TrustPolicy,
}

impl ClockEvidence {
    /// The judgement; the module says by which rules.
    #[must_use]
    pub fn judge(&self) -> ClockTrust {
        let tor = self.consensus.map_or(ConsensusSays::Nothing, |seen| seen.says_of(self.wall));
        let since_jump = |ago: Duration| self.jumped_ago.is_none_or(|jumped_ago| ago < jumped_ago);
        if self.wall < self.built {
            ClockTrust::BeforeBuild
        } else if tor == ConsensusSays::Wrong {
            ClockTrust::Apart
        } else if self.kernel == KernelWord::Synchronised {
            ClockTrust::KernelSynchronised
        } else if tor == ConsensusSays::Right && self.consensus.is_some_and(|seen| since_jump(seen.ago)) {
            ClockTrust::WithinConsensus
        } else {
            match (self.policy, self.jumped_ago) {
                (TrustPolicy::Assume, Some(ago)) if ago < ASSUMED_AFTER_JUMP => ClockTrust::Jumped,
                (TrustPolicy::Assume, _) => ClockTrust::Assumed,
                (TrustPolicy::Auto, Some(_)) => ClockTrust::Jumped,
                (TrustPolicy::Auto, None) => ClockTrust::Unvouched,
            }
        }
    }
}

/// Whether the wall clock is believed, as the reason for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClockTrust {
    /// Believed: the kernel says that it is synchronised.
    KernelSynchronised,
    /// Believed: it lies within the times of Tor's consensus.
    WithinConsensus,
    /// Believed: the config says so.
    Assumed,
    /// Not believed: it shows a time before this program was built.
    BeforeBuild,
    /// Not believed, and an alarm: Tor's consensus says another time.
    Apart,
    /// Not believed: it jumped, and nobody has vouched for it since.
    Jumped,
    /// Not believed: nobody vouches for it.
    Unvouched,
}

impl ClockTrust {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::KernelSynchronised,
        Self::WithinConsensus,
        Self::Assumed,
        Self::BeforeBuild,
        Self::Apart,
        Self::Jumped,
        Self::Unvouched,
    ];

    /// Whether the wall clock is believed.
    #[must_use]
    pub const fn trusted(self) -> bool {
        matches!(self, Self::KernelSynchronised | Self::WithinConsensus | Self::Assumed)
    }

    /// Whether somebody has to look at once: two clocks contradict each other.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::Apart)
    }

    /// Its name in metrics and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KernelSynchronised => "kernel_synchronised",
            Self::WithinConsensus => "within_consensus",
            Self::Assumed => "assumed",
            Self::BeforeBuild => "before_build",
            Self::Apart => "apart",
            Self::Jumped => "jumped",
            Self::Unvouched => "unvouched",
        }
    }

    /// Why, in a sentence without its end.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::KernelSynchronised => "the kernel says that it is synchronised",
            Self::WithinConsensus => "it agrees with the times of Tor's consensus",
            Self::Assumed => "nobody vouches for it, but clock.trust = \"assume\" says to believe it",
            Self::BeforeBuild => "it shows a time before this version of Tidegate was made",
            Self::Apart => {
                "it is more than 30 minutes from the time that Tor's consensus tells: one of the two is wrong"
            }
            Self::Jumped => "it jumped, and nobody has vouched for it since",
            Self::Unvouched => {
                "nobody vouches for it: the kernel doesn't say that it is synchronised, nor has Tor told its time yet"
            }
        }
    }

    /// What an operator can do; empty where there is nothing to do.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::KernelSynchronised | Self::WithinConsensus => "",
            Self::Assumed => {
                "run a time daemon (chrony, systemd-timesyncd) and remove the setting as soon as there is a time server"
            }
            Self::BeforeBuild => "set the clock, best by a time daemon (chrony, systemd-timesyncd)",
            Self::Apart => "look at the clock and at the time daemon's sources; somebody may be giving it a wrong time",
            Self::Jumped | Self::Unvouched => {
                "run a time daemon (chrony, systemd-timesyncd), or wait until Tor has fetched a new consensus (within two hours); \
                 on a network without a time server set clock.trust = \"assume\""
            }
        }
    }

    /// As the API shows it.
    #[must_use]
    pub fn view(self) -> ClockView {
        let (trusted, why, hint) = (self.trusted(), self.why().to_owned(), self.hint().to_owned());
        ClockView { trusted, reason: self, why, hint }
    }
}

/// The judgement as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockView {
    /// Whether the wall clock is believed; if not, what depends on the time of day stays closed.
    pub trusted: bool,
    /// The reason.
    pub reason: ClockTrust,
    /// The same as a sentence.
    pub why: String,
    /// What an operator can do; empty where there is nothing to do.
    pub hint: String,
}

#[cfg(test)]
mod tests;
