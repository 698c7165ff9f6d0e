//! Exit codes, and failures that carry one. The numbers are sysexits(3).

use std::{fmt, io::Write as _, process::ExitCode};

/// Done.
pub const OK: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The gateway or the broker can't be reached (EX_UNAVAILABLE).
pub const UNREACHABLE: u8 = 69;
/// The gateway gave up after repeated failures, or its main thread stood still (EX_SOFTWARE).
pub const GAVE_UP: u8 = 70;
/// Not now (EX_TEMPFAIL).
pub const LATER: u8 = 75;
/// The config is wrong (EX_CONFIG).
pub const CONFIG: u8 = 78;

/// Why a command ends without success: what is said on stderr, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of the codes of this module.
    pub code: u8,
    /// What went wrong, and what to do.
    pub message: String,
}

impl Failure {
    /// It failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into() }
    }
    /// The command line is wrong in a way that clap can't see.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }
    /// Nobody answers.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: UNREACHABLE, message: message.into() }
    }
    /// Not now.
    pub fn later(message: impl Into<String>) -> Self {
        Self { code: LATER, message: message.into() }
    }
    /// The config is wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self { code: CONFIG, message: message.into() }
    }

    /// Says it on stderr and gives the code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        // There is nobody to tell if stderr is closed.
        let _ = writeln!(std::io::stderr(), "tidegate: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Failure {}
