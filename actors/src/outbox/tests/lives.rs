//! Lives that are counted in open time, attempts or openings; and warnings before they end.

use super::*;
use tidegate_schemas::{
    agreement::{Ages, LifetimeEnd, SignalPolicy},
    entry::EndedBy,
    messages::outbox::{SignalSource, SignalWord},
    window::{RawWindows, WindowSet},
};

/// Open from 12:10 to 12:20 UTC every day; it is 12:00.
fn a_window() -> WindowSet {
    let text = r#"{"allow":[{"days":"daily","from":"12:10","to":"12:20"}]}"#;
    let raw: RawWindows = serde_json::from_str(text).unwrap();
    WindowSet::from_raw(raw, "windows").unwrap()
}

fn rig_with(agreement: ServiceAgreement) -> Rig {
    Rig { registry: ToyRegistry(snapshot(vec![destination("ward", agreement)])).start().recipient(), ..Rig::new() }
}

async fn endings(outbox: &Addr<Outbox>) -> Vec<(EntryState, Option<EndedBy>)> {
    let ledger = outbox.send(ListLedger { before: None, limit: 99 }).await.unwrap().unwrap();
    ledger.iter().rev().map(|view| (view.state, view.ended_by)).collect()
}

async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
}

fn of(end: LifetimeEnd, ages: Ages) -> ServiceAgreement {
    ServiceAgreement { lifetime: Lifetime { end, ages }, windows: a_window(), ..ServiceAgreement::default() }
}

#[actix::test]
async fn a_closed_window_ages_nothing_where_it_is_so_agreed() {
    tokio::time::pause();
    let rig = rig_with(of(LifetimeEnd::MaxAge(SignedDuration::from_mins(15)), Ages::WhileOpen));
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    // Ten minutes of it open; with a restart in the middle of the second opening.
    minutes(24 * 60).await;
    assert_eq!(endings(&outbox).await, []);
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    minutes(14).await;
    assert_eq!(endings(&outbox).await, [], "fourteen");
    minutes(2).await;
    assert_eq!(endings(&outbox).await, [(EntryState::Expired, Some(EndedBy::MaxAge))]);
}

#[actix::test]
async fn openings_that_were_missed_end_a_message_but_not_those_of_a_clock_that_nobody_believes() {
    tokio::time::pause();
    let rig = rig_with(of(LifetimeEnd::MissedWindows(2), Ages::Always));
    let outbox = rig.start();
    minutes(15).await;
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    minutes(10).await;
    rig.clock.set_trusted(false);
    minutes(24 * 60).await;
    rig.clock.set_trusted(true);
    rig.clock.step(SignedDuration::from_hours(72));
    minutes(12 * 60).await;
    assert_eq!(endings(&outbox).await, [], "one");
    minutes(24 * 60).await;
    assert_eq!(endings(&outbox).await, [(EntryState::Expired, Some(EndedBy::MissedWindows))]);
}

#[actix::test]
async fn failed_attempts_end_what_lived_through_them() {
    tokio::time::pause();
    let rig = rig_with(of(LifetimeEnd::Attempts(3), Ages::Always));
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    let fail = |error| Fail {
        destination: "ward".parse().unwrap(),
        error,
        retry_after_s: None,
        retry: RetryPolicy::default(),
    };
    for error in [DeliveryError::ConnectTimeout, DeliveryError::ConnectTimeout, DeliveryError::WindowClosed] {
        outbox.send(fail(error)).await.unwrap().unwrap();
    }
    enqueue(&outbox, submission("p", "y")).await.unwrap();
    minutes(1).await;
    assert_eq!(endings(&outbox).await, []);
    outbox.send(fail(DeliveryError::ConnectTimeout)).await.unwrap().unwrap();
    minutes(1).await;
    assert_eq!(endings(&outbox).await, [(EntryState::Expired, Some(EndedBy::Attempts))]);
    assert_eq!(pick(&outbox).await.len(), 1, "the second lived through one");
}

#[actix::test]
async fn people_are_told_once_for_each_age_and_anew_for_the_next_message() {
    tokio::time::pause();
    let notify_after = vec![SignedDuration::from_hours(1), SignedDuration::from_hours(2)];
    let rig = rig_with(ServiceAgreement { notify_after, ..ServiceAgreement::default() });
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    minutes(59).await;
    assert_eq!(endings(&outbox).await, []);
    minutes(2).await;
    assert_eq!(endings(&outbox).await, [(EntryState::Queued, None)]);
    enqueue(&outbox, submission("p", "y")).await.unwrap();
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    minutes(61).await;
    assert_eq!(endings(&outbox).await.len(), 2, "two hours");
    minutes(600).await;
    assert_eq!(endings(&outbox).await.len(), 2);
    settle(&outbox, 1, Event::Deliver).await;
    settle(&outbox, 2, Event::Deliver).await;
    enqueue(&outbox, submission("p", "z")).await.unwrap();
    minutes(61).await;
    assert_eq!(endings(&outbox).await.last(), Some(&(EntryState::Queued, None)), "the next one is young again");
    assert_eq!(observe(&outbox).await.gap, 0);
}

#[actix::test]
async fn a_ready_that_runs_out_is_a_missed_window_only_where_nothing_but_signals_opens() {
    tokio::time::pause();
    for only in [false, true] {
        let policy = SignalPolicy { accept: true, only, ..SignalPolicy::default() };
        let rig = rig_with(ServiceAgreement { signal: policy, ..of(LifetimeEnd::MissedWindows(1), Ages::Always) });
        let outbox = rig.start();
        minutes(60).await;
        enqueue(&outbox, submission("p", "x")).await.unwrap();
        let (destination, word) = ("ward".parse().unwrap(), SignalWord::Ready(300));
        let signal = Signal { destination, word, policy, from: SignalSource::Operator, sequence: None };
        outbox.send(signal).await.unwrap().unwrap();
        minutes(60).await;
        // A signal opens only within a window where nothing else does; at one o'clock there is none.
        assert_eq!(endings(&outbox).await, [], "signal-only: {only}");
        minutes(22 * 60 + 5).await;
        let (destination, word) = ("ward".parse().unwrap(), SignalWord::Ready(600));
        let signal = Signal { destination, word, policy, from: SignalSource::Operator, sequence: None };
        outbox.send(signal).await.unwrap().unwrap();
        minutes(60).await;
        assert_eq!(
            endings(&outbox).await,
            [(EntryState::Expired, Some(EndedBy::MissedWindows))],
            "signal-only: {only}"
        );
    }
}
