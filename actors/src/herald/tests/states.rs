//! States: what is told, when, how often, and that no number comes twice.

use super::floor::{House, courier, json, load, pass};
use crate::testing::{
    fake_source::AnnounceManner,
    toy_registry::{destination, snapshot},
};
use tidegate_schemas::{
    agreement::{Destination, IntakeTerms, ServiceAgreement, SignalPolicy},
    messages::{
        outbox::SignalSource,
        registry::{Broken, RegistrySnapshot},
    },
    tidings::Tidings,
    view::{SignalView, UplinkStatus},
    window::{RawWindow, RawWindows, WindowSet},
};

fn always(alias: &str) -> Destination {
    destination(alias, ServiceAgreement::default())
}

/// Open from 13 to 14 o'clock; the tests begin at 12.
fn at_one(alias: &str) -> Destination {
    let window = RawWindow { from: Some("13:00".into()), to: Some("14:00".into()), ..RawWindow::default() };
    let raw = RawWindows { allow: vec![window], ..RawWindows::default() };
    let windows = WindowSet::from_raw(raw, "windows").unwrap();
    destination(alias, ServiceAgreement { windows, ..ServiceAgreement::default() })
}

#[actix::test]
async fn a_device_hears_when_its_destination_opens_and_can_sleep_until_then() {
    let house = House::up(vec![at_one("ward"), always("lab")]).await;
    pass(3_000).await;
    let closed = house.broker.retained("tidegate/destinations/ward/state").unwrap();
    let told = json(&closed);
    assert_eq!(
        (&told["state"], &told["until"], &told["next_open"]),
        (&"closed".into(), &1_795_438_800.into(), &1_795_438_800.into())
    );
    assert!(closed.payload.len() < 128, "{closed:?}");
    assert_eq!(house.word("lab").unwrap(), "open");
    pass(3_600_000).await;
    assert_eq!(house.word("ward").unwrap(), "open", "within a second of its opening, without a bell");
    pass(3_600_000).await;
    let words: Vec<_> = house.states("ward").into_iter().map(|(word, _)| word).collect();
    assert_eq!(words, ["closed", "open", "closed"]);
    assert_eq!(house.states("lab").len(), 1, "what doesn't change is not told again");
}

#[actix::test]
async fn a_signal_makes_it_ready_for_its_time_and_not_now_closes_it() {
    let signal = SignalPolicy { accept: true, ..SignalPolicy::default() };
    let house = House::up(vec![destination("ward", ServiceAgreement { signal, ..at_one("ward").agreement })]).await;
    pass(3_000).await;
    let says = |ready, left_ms| {
        house.below().loads = vec![load("ward")];
        house.below().loads[0].signal = Some(SignalView { ready, since_ms: 0, left_ms, from: SignalSource::Operator });
        house.bell.ring();
    };
    for left_s in (590..=600).rev() {
        says(true, left_s * 1_000 + 400);
        pass(1_000).await;
    }
    let told = json(&house.broker.retained("tidegate/destinations/ward/state").unwrap());
    let (until, time) = (told["until"].as_i64().unwrap(), told["time"].as_i64().unwrap());
    assert!(told["state"] == "ready" && (598..=602).contains(&(until - time)), "{told}");
    assert_eq!(house.states("ward").len(), 2, "what is left of it is no news: {:?}", house.states("ward"));
    says(false, 60_000);
    pass(2_000).await;
    assert_eq!(house.word("ward").unwrap(), "closed");
}

#[actix::test]
async fn within_the_cutoff_it_is_closed_for_devices() {
    let agreement = at_one("ward").agreement;
    let raw = RawWindows { cutoff: Some("10m".into()), ..agreement.windows.raw().clone() };
    let windows = WindowSet::from_raw(raw, "windows").unwrap();
    let house = House::up(vec![destination("ward", ServiceAgreement { windows, ..agreement })]).await;
    pass(3_600_000 + 5_000).await;
    let told = json(&house.broker.retained("tidegate/destinations/ward/state").unwrap());
    assert_eq!((&told["state"], &told["until"]), (&"open".into(), &(1_795_438_800_i64 + 3_000).into()));
    pass(3_000_000).await;
    let told = json(&house.broker.retained("tidegate/destinations/ward/state").unwrap());
    assert_eq!((&told["state"], &told["until"]), (&"closed".into(), &(1_795_438_800_i64 + 86_400).into()));
}

#[actix::test]
async fn each_word_is_told_for_what_it_means() {
    let house = House::up(vec![always("ward")]).await;
    let is = async |word: &str| {
        house.bell.ring();
        pass(5_000).await;
        assert_eq!(house.word("ward").as_deref(), Some(word));
    };
    is("open").await;
    house.below().loads = vec![load("ward")];
    house.below().loads[0].paused = true;
    is("paused").await;
    house.below().loads[0].paused = false;
    house.below().loads[0].failures = 1;
    is("unreachable").await;
    // Nobody tries it any more, so nobody would find out that it is back.
    house.below().loads[0].queued = 0;
    is("open").await;
    house.below().loads[0].queued = 1;
    house.below().loads[0].failures = 0;
    house.below().uplink = UplinkStatus::Failed { reason: "no network".into() };
    is("unreachable").await;
    house.below().uplink = UplinkStatus::Ready;
    house.below().dispatcher.suspended = vec!["ward".parse().unwrap()];
    is("unreachable").await;
    house.below().dispatcher.suspended.clear();
    is("open").await;
}

#[actix::test]
async fn a_backlog_on_its_way_is_told_and_a_single_reading_is_not() {
    let house = House::up(vec![always("ward")]).await;
    pass(3_000).await;
    let busy = |queued| {
        house.below().loads = vec![load("ward")];
        house.below().loads[0].queued = queued;
        house.below().dispatcher.couriers = vec![courier("ward")];
        house.bell.ring();
    };
    for _ in 0..10 {
        busy(1);
        pass(1_500).await;
        busy(0);
        pass(8_500).await;
    }
    assert_eq!(house.states("ward").len(), 1, "{:?}", house.states("ward"));
    busy(1_000);
    pass(6_000).await;
    assert_eq!(house.word("ward").unwrap(), "draining");
    house.below().loads[0].queued = 0;
    pass(6_000).await;
    assert_eq!(house.word("ward").unwrap(), "open", "nobody rings at the end of it");
}

#[actix::test]
async fn a_state_that_flickers_is_told_once_a_second_at_most_and_its_last_word_counts() {
    let house = House::up(vec![always("ward")]).await;
    house.below().loads = vec![load("ward")];
    pass(3_000).await;
    let before = house.states("ward").len();
    for step in 0..200 {
        house.below().loads[0].paused = step % 2 == 0;
        house.bell.ring();
        pass(50).await;
    }
    house.below().loads[0].paused = true;
    house.bell.ring();
    pass(2_000).await;
    let told = house.states("ward").len() - before;
    assert!(told <= 12, "{told} in 12 seconds");
    assert_eq!(house.word("ward").unwrap(), "paused");
}

#[actix::test]
async fn numbers_rise_through_reconnects_and_restarts_and_untrusted_clocks() {
    let mut house = House::up(vec![always("ward"), at_one("lab")]).await;
    for round in 0..4 {
        pass(3_000).await;
        house.broker.disconnect("gone", false);
        pass(3_000).await;
        house.clock.set_trusted(round % 2 == 0);
        house.clock.step(jiff::SignedDuration::from_hours(-1));
        house.restart().await;
    }
    pass(3_000).await;
    for alias in ["ward", "lab"] {
        let told = house.states(alias);
        assert!(told.len() >= 9, "everything is told again: {told:?}");
        assert!(told.windows(2).all(|pair| pair[0].1 < pair[1].1), "{told:?}");
    }
}

#[actix::test]
async fn times_that_are_not_trusted_are_not_told_and_what_depends_on_them_is_closed() {
    let house = House::up(vec![at_one("ward"), always("lab")]).await;
    house.clock.set_trusted(false);
    house.clock.step(jiff::SignedDuration::from_hours(1));
    pass(3_000).await;
    let told = json(&house.broker.retained("tidegate/destinations/ward/state").unwrap());
    assert_eq!(told["state"], "closed");
    assert!(told.get("until").is_none() && told.get("next_open").is_none() && told.get("time").is_none(), "{told}");
    assert_eq!(house.word("lab").unwrap(), "open");
}

#[actix::test]
async fn what_the_broker_did_not_take_is_told_again_and_a_refusal_is_not() {
    let house = House::up(vec![always("ward")]).await;
    house.broker.set_announce_manner(AnnounceManner::Silent);
    pass(30_000).await;
    assert_eq!((house.word("ward"), house.observe().await.states_told), (None, 0));
    assert!(house.observe().await.last_error.is_some());
    house.broker.set_announce_manner(AnnounceManner::Answers);
    pass(30_000).await;
    assert_eq!(house.word("ward").unwrap(), "open");
    assert_eq!(house.observe().await.last_error, None);
    house.broker.set_announce_manner(AnnounceManner::Refuses);
    house.below().loads = vec![load("ward")];
    house.below().loads[0].paused = true;
    let before = house.broker.handed_over();
    pass(600_000).await;
    let seen = house.observe().await;
    assert_eq!((house.broker.handed_over() - before, seen.refused), (1, 1));
    assert!(seen.last_error.unwrap().contains("access rules"));
}

#[actix::test]
async fn a_store_that_gives_no_number_delays_and_nothing_else() {
    let house = House::up(vec![always("ward")]).await;
    house.below().fails = true;
    pass(60_000).await;
    assert_eq!(house.word("ward"), None);
    house.below().fails = false;
    pass(10_000).await;
    assert_eq!(house.word("ward").unwrap(), "open");
}

#[actix::test]
async fn a_destination_that_is_no_more_has_no_state() {
    let house = House::up(vec![always("ward"), always("lab")]).await;
    pass(3_000).await;
    house.declare(vec![always("lab")]).await;
    pass(3_000).await;
    assert!(house.broker.retained("tidegate/destinations/ward/state").unwrap().payload.is_empty());
    assert_eq!(house.word("lab").unwrap(), "open");
    let told = house.broker.handed_over();
    pass(300_000).await;
    assert_eq!(house.broker.handed_over(), told);
}

#[actix::test]
async fn without_states_nothing_is_looked_at() {
    let house = House::with(vec![always("ward")], Tidings { states: false, ..Tidings::default() }).await;
    pass(300_000).await;
    assert_eq!((house.broker.handed_over(), house.below().looks), (0, 0));
}

#[actix::test]
async fn one_that_went_while_nobody_could_tell_loses_its_state_once_on_each_connection() {
    let house = House::up(vec![always("lab")]).await;
    let mut known = RegistrySnapshot::clone(&snapshot(vec![always("lab")]));
    known.gone.insert("ward".parse().unwrap());
    let broken = Broken { reason: "no such zone".into(), intake: IntakeTerms::default() };
    known.broken.insert("mill".parse().unwrap(), broken);
    house.become_known(known).await;
    pass(5_000).await;
    let told = || house.broker.announced().into_iter().filter(|it| it.topic.contains("ward")).count();
    assert!(house.broker.retained("tidegate/destinations/ward/state").unwrap().payload.is_empty());
    assert!(house.broker.retained("tidegate/destinations/mill/state").unwrap().payload.is_empty(), "it can't be used");
    assert_eq!(told(), 1);
    pass(300_000).await;
    assert_eq!(told(), 1);
    house.broker.disconnect("gone", false);
    pass(60_000).await;
    assert_eq!(told(), 2);
    house.declare(vec![always("lab"), always("ward")]).await;
    pass(5_000).await;
    assert_eq!(house.word("ward").unwrap(), "open");
}
