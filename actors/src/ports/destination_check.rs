//! The check of a destination that is made at run time: the same as that of the config files.

use tidegate_schemas::{
    config::{
        Problems,
        check::{CheckedDestination, Occasion},
        raw::RawDestination,
    },
    id::DestinationId,
};

/// Checks destinations. Calls block: the files of their keys are read.
pub trait DestinationCheck: Send + Sync + 'static {
    /// The checked destination with its warnings, whether it is new or was kept; signing seed and pseudonym are the Registry's to fill in.
    ///
    /// # Errors
    /// All problems at once; their paths and those of warnings begin with [`PATH`].
    fn check(
        &self,
        id: &DestinationId,
        raw: &RawDestination,
        occasion: Occasion,
    ) -> Result<CheckedDestination, Problems>;
}

/// What the paths of problems begin with.
pub const PATH: &str = "destination";
