//! The examples of `docs/windows.md`, each against the evaluation.
#![expect(clippy::unwrap_used, reason = "tests")]
use crate::{
    agreement::{Circumstances, RawAgreement, Why},
    config::check::{Occasion, check_openings},
    window::local_moment,
};
use jiff::{SignedDuration, Timestamp};

const PAGE: &str = include_str!("../../../docs/windows.md");

/// The fenced blocks of the page: what they are, and their text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let fenced = PAGE.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

#[test]
fn every_example_of_the_page_opens_when_it_says() {
    let blocks = blocks();
    assert!(blocks.len() >= 14 && blocks.len().is_multiple_of(2), "{}", blocks.len());
    for pair in blocks.chunks(2) {
        let ((first, toml), (second, listed)) = (pair[0], pair[1]);
        assert_eq!((first, second), ("toml", "openings"));
        let raw: RawAgreement = toml::from_str(toml).unwrap();
        let agreement = raw.check("destination.example", false).unwrap();
        let zone = agreement.windows.zone().clone();
        let mut lines = listed.lines();
        let from = local_moment(lines.next().unwrap().strip_prefix("from ").unwrap(), &zone).unwrap();
        let warnings = check_openings(&agreement, Occasion::New, from, "windows", "lifetime.max_age").unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let mut openings = agreement.openings(from);
        for line in lines {
            if line == "end" {
                assert_eq!(openings.next(), None, "{toml}");
                break;
            }
            let opening = openings.next().unwrap_or_else(|| panic!("no opening for {line}\n{toml}"));
            let form =
                |at: Option<Timestamp>| at.unwrap().to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M%:z").to_string();
            assert_eq!(format!("{} {}", form(opening.start), form(opening.end)), line, "{toml}");
            let inside = opening.start.unwrap().checked_add(SignedDuration::from_secs(1)).unwrap();
            let answer = agreement.evaluate(&Circumstances::at(inside));
            assert_eq!(answer.open, !agreement.signal.only, "{line}");
            assert!(answer.open || answer.why == Why::WaitsForSignal);
            assert!(!agreement.evaluate(&Circumstances::at(opening.end.unwrap())).open, "{line}");
        }
    }
}
