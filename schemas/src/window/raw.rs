//! Windows as they are written in the config file and in the admin API. Absent keys are the defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The windows of one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWindows {
    /// IANA time zone, such as `Europe/Madrid`; `UTC` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// When it is open; if there are neither these nor `once`: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<RawWindow>,
    /// When it is closed, whatever else opens it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<RawDenial>,
    /// Openings that come once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub once: Vec<RawOnce>,
    /// Nothing new starts so long before a closing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<String>,
    /// An attempt under way may go on for so long after a closing; 30 s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    /// Against an inexact clock: every opening begins so much later and ends so much earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
}

/// One window: either `days`, `dates`, `months`, `from`, `to`, or `cron` and `for`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWindow {
    /// `mon-fri`, `sat,sun`, `daily`; every day if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<String>,
    /// Days of the month: `1-7,15,last`; all if absent. With `days`, both must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dates: Option<String>,
    /// `jan-mar,dec`; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub months: Option<String>,
    /// `HH:MM` at which it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `HH:MM` at which it closes (`24:00` is the end of the day); before `from` means the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Five cron fields: minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// How long a cron opening lasts, such as `20m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RawWindow {
    pub(super) fn has_calendar(&self) -> bool {
        [&self.days, &self.dates, &self.months, &self.from, &self.to].into_iter().any(Option::is_some)
    }
}

/// A time of no openings: as a window, or `from` one moment `until` another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDenial {
    /// As in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<String>,
    /// As in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dates: Option<String>,
    /// As in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub months: Option<String>,
    /// As in a window; or, with `until`, the moment at which it begins: `2027-12-24T20:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// As in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The moment at which it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// As in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// As in a window.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RawDenial {
    /// The window that it is, if it has no `until`.
    pub(crate) fn recurring(&self) -> RawWindow {
        let Self { days, dates, months, from, to, until: _, cron, lasts, note } = self.clone();
        RawWindow { days, dates, months, from, to, cron, lasts, note }
    }
}

/// An opening that comes once: `{ at = "2027-03-02T10:00", for = "30m" }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOnce {
    /// When it opens.
    pub at: String,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
