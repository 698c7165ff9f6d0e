//! How long a message lives.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a message lives. A lifetime that its device gave it (MQTT message expiry) ends it earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// What ends it.
    pub end: LifetimeEnd,
    /// When it ages.
    pub ages: Ages,
}
impl Default for Lifetime {
    fn default() -> Self {
        Self { end: LifetimeEnd::MaxAge(SignedDuration::from_hours(14 * 24)), ages: Ages::Always }
    }
}

/// What ends a message's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimeEnd {
    /// So long in custody.
    MaxAge(SignedDuration),
    /// So many failed attempts at its destination since custody (back-off belongs to the destination, and so do attempts).
    Attempts(u32),
    /// So many openings of its destination that closed since custody, while the gateway ran.
    MissedWindows(u32),
}

/// When a message ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ages {
    /// From custody on.
    #[default]
    Always,
    /// Only while its destination is open: a closed window ages nothing.
    WhileOpen,
}

impl Lifetime {
    /// A life of this length, counted always.
    #[must_use]
    pub fn of(max_age: SignedDuration) -> Self {
        Self { end: LifetimeEnd::MaxAge(max_age), ages: Ages::Always }
    }

    /// The age at which it ends, where it is an age that ends it.
    #[must_use]
    pub fn max_age(&self) -> Option<SignedDuration> {
        match self.end {
            LifetimeEnd::MaxAge(age) => Some(age),
            LifetimeEnd::Attempts(_) | LifetimeEnd::MissedWindows(_) => None,
        }
    }
}
