//! What another agreement would mean, before it is in force: the openings before and after, and what becomes of what waits.

use crate::{agreement::ServiceAgreement, forecast::Forecast, window::Opening};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Openings that an impact shows.
pub const OPENINGS_SHOWN: usize = 3;

/// The openings from a moment on; the one under way comes first and is shown without its start. None where it is always open. Where
/// nothing but a signal opens, these are the times at which one may.
#[must_use]
pub fn openings(agreement: &ServiceAgreement, from: Timestamp, count: usize) -> Vec<Opening> {
    let ahead = agreement.openings(from).take(count);
    let shown = ahead.map(|opening| Opening { start: opening.start.filter(|start| *start > from), ..opening });
    shown.filter(|opening| opening.start.is_some() || opening.end.is_some()).collect()
}

/// What a change means, before it is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Impact {
    /// The next openings as it is; absent where the destination is new, empty where it is always open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openings_before: Option<Vec<Opening>>,
    /// The next openings after the change; absent where the destination goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openings_after: Option<Vec<Opening>>,
    /// What becomes of what waits; absent where nothing does, or when the outbox could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{
        agreement::RawAgreement,
        window::{RawWindow, RawWindows},
    };

    #[test]
    fn an_opening_under_way_comes_first_and_always_open_has_none() {
        let night = RawWindow { from: Some("22:00".to_owned()), to: Some("02:00".to_owned()), ..RawWindow::default() };
        let windows = RawWindows { allow: vec![night], ..RawWindows::default() };
        let nightly = RawAgreement { windows, ..RawAgreement::default() }.check("d", false).unwrap();
        let now = "2026-11-23T23:00:00Z".parse().unwrap();
        let found = openings(&nightly, now, 3);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Opening { start: None, end: Some("2026-11-24T02:00:00Z".parse().unwrap()) });
        assert_eq!(found[1].start, Some("2026-11-24T22:00:00Z".parse().unwrap()));
        assert!(openings(&ServiceAgreement::default(), now, 3).is_empty());
    }
}
