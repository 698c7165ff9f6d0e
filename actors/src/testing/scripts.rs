//! Scripts for [`super::simulation`]: four weeks of three destinations, a week's outage, and a hostile day.

use super::{
    seeded_entropy::SeededEntropy,
    simulation::{Happening, Script},
    toy_registry::destination,
};
use crate::ports::entropy::Entropy as _;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tidegate_schemas::{
    agreement::{Lifetime, RawAgreement, ServiceAgreement, SignalPolicy},
    id::DestinationId,
    messages::outbox::SignalWord,
    outcome::DeliveryError,
    window::{RawWindow, RawWindows},
    wire::WireFormat,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Open each night, Madrid's time; the clock is set forward in the midst of it on 2027-03-28.
fn nightly() -> ServiceAgreement {
    let night = RawWindow { from: Some("01:30".into()), to: Some("04:30".into()), ..RawWindow::default() };
    let windows = RawWindows {
        timezone: Some("Europe/Madrid".into()),
        allow: vec![night],
        cutoff: Some("2m".into()),
        ..RawWindows::default()
    };
    RawAgreement { windows, ..RawAgreement::default() }.check("ward", false).expect("an agreement")
}

/// Nothing but a signal opens it.
fn signalled() -> ServiceAgreement {
    let signal = SignalPolicy { accept: true, only: true, ttl_max: SignedDuration::from_hours(2), per_hour: 4 };
    ServiceAgreement { signal, format: WireFormat::CloudeventsBatch, ..ServiceAgreement::default() }
}

fn id(name: &str) -> DestinationId {
    name.parse().expect("a name")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Four weeks with a change to summer time: a ward with a night window that is away for a week, a lab that signals, and a home that
/// is always open; outages of hours, steps of the clock, falls of actors, a homeserver that is away. The lab's messages live for two
/// days, and it is silent for three in a row: some expire.
#[must_use]
pub fn four_weeks(seed: u64) -> Script {
    let entropy = SeededEntropy::new(seed);
    let draw = |below: u64| entropy.number() % below;
    let mut happenings: Vec<(Duration, Happening)> = vec![
        // A week without the ward.
        (3 * DAY + HOUR, Happening::Down(id("ward"), DeliveryError::DescriptorNotFound)),
        (10 * DAY + HOUR, Happening::Up(id("ward"))),
    ];
    for day in 0..28 {
        let midnight = day * DAY;
        let some = |below: u64| Duration::from_secs(draw(below));
        if day % 2 == 0 {
            let down = midnight + some(43_200);
            happenings.push((down, Happening::Down(id("home"), DeliveryError::RendezvousFailed)));
            happenings.push((down + 10 * MINUTE + some(4 * 3_600), Happening::Up(id("home"))));
        }
        if day % 5 < 2 {
            let ttl_s = u32::try_from(300 + some(3_600).as_secs()).unwrap_or(300);
            happenings.push((midnight + some(80_000), Happening::Signal(id("lab"), SignalWord::Ready(ttl_s))));
        }
        if day % 7 == 3 {
            happenings.push((midnight + some(80_000), Happening::Signal(id("lab"), SignalWord::NotNow(600))));
        }
        if day % 5 == 4 {
            let by = i64::try_from(some(7_200).as_secs()).unwrap_or(0) - 3_600;
            let when = midnight + 6 * HOUR + some(43_200);
            happenings.push((when, Happening::Step(SignedDuration::from_secs(by))));
            // A time server mends it.
            happenings.push((when + 40 * MINUTE, Happening::Step(SignedDuration::from_secs(-by))));
        }
        if day % 4 == 2 {
            let falls = ["outbox", "dispatcher", "registry", "uplink", "reporter", "subscriber"];
            let which = usize::try_from(draw(6)).unwrap_or(0);
            happenings.push((midnight + Duration::from_secs(draw(86_000)), Happening::Fall(falls[which])));
        }
        if day % 6 == 5 {
            let away = midnight + Duration::from_secs(draw(43_200));
            happenings.push((away, Happening::Room(false)));
            happenings.push((away + 5 * HOUR, Happening::Room(true)));
            happenings.push((away + HOUR, Happening::Disconnect));
        }
    }
    happenings.push((28 * DAY + HOUR, Happening::Signal(id("lab"), SignalWord::Ready(7_200))));
    happenings.sort_by_key(|(when, _)| *when);
    let days = |days: i64| Lifetime::of(SignedDuration::from_hours(24 * days));
    Script {
        at: at("2027-03-08T12:00:00Z"),
        destinations: vec![
            destination(
                "ward",
                ServiceAgreement { lifetime: days(10), format: WireFormat::CloudeventsBatch, ..nightly() },
            ),
            destination("lab", ServiceAgreement { lifetime: days(2), ..signalled() }),
            destination("home", ServiceAgreement::default()),
        ],
        publish_every: 8 * MINUTE,
        happenings,
        lasts: 28 * DAY,
        settles: 2 * DAY,
    }
}

/// A ward with a night window is away for seven days.
#[must_use]
pub fn week_without_the_ward() -> Script {
    Script {
        at: at("2027-03-08T12:00:00Z"),
        destinations: vec![destination("ward", nightly())],
        publish_every: 10 * MINUTE,
        happenings: vec![
            (DAY, Happening::Down(id("ward"), DeliveryError::DescriptorNotFound)),
            (8 * DAY, Happening::Up(id("ward"))),
        ],
        lasts: 9 * DAY,
        settles: 2 * DAY,
    }
}

/// A service that is always open, and drops every rendezvous for a day.
#[must_use]
pub fn hostile_day() -> Script {
    Script {
        at: at("2027-03-08T12:00:00Z"),
        destinations: vec![destination("home", ServiceAgreement::default())],
        publish_every: 10 * MINUTE,
        happenings: vec![
            (Duration::ZERO, Happening::Down(id("home"), DeliveryError::RendezvousFailed)),
            (DAY, Happening::Up(id("home"))),
        ],
        lasts: DAY,
        settles: 3 * HOUR,
    }
}
