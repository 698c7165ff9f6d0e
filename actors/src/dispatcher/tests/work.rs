//! A round's work grows with the destinations that are due, not with those that exist.

use super::*;

const DESTINATIONS: u64 = 200;

#[actix::test]
async fn a_bell_looks_at_what_changed_and_an_opening_at_what_opens() {
    tokio::time::pause();
    let nights = ServiceAgreement { windows: nightly("03:00", "05:00"), ..agreement() };
    let mornings = ServiceAgreement { windows: nightly("14:00", "16:00"), ..agreement() };
    let name = |n: u64| format!("d{n}");
    let mut all: Vec<_> = (1..DESTINATIONS).map(|n| destination(&name(n), nights.clone())).collect();
    all.push(destination("ward", mornings));
    let rig = Rig::new(all);
    for n in 1..DESTINATIONS {
        rig.hand_in(&name(n), "p", "70".into()).await;
    }
    rig.hand_in("ward", "p", "70".into()).await;
    // Past the full look of every ten minutes.
    pass(650).await;
    let before = rig.seen().await;
    assert_eq!(before.waiting_total, DESTINATIONS);
    for _ in 0..10 {
        rig.parts.bell.ring();
        pass(1).await;
    }
    rig.hand_in("ward", "p", "71".into()).await;
    pass(1).await;
    let after = rig.seen().await;
    assert!(after.rounds >= before.rounds + 11);
    assert!(after.looked_at <= before.looked_at + 2, "{before:?} {after:?}");
    // Two hours, twelve full looks, and one opening.
    pass(7_200).await;
    assert_eq!(rig.taken("ward"), ["70", "71"]);
    let looked_at = rig.seen().await.looked_at - after.looked_at;
    assert!((12 * DESTINATIONS..13 * DESTINATIONS).contains(&looked_at), "{looked_at}");
}

#[actix::test]
async fn what_concerns_all_makes_it_look_at_all() {
    tokio::time::pause();
    let nights = ServiceAgreement { windows: nightly("18:00", "20:00"), ..agreement() };
    let rig = Rig::new(vec![destination("ward", nights.clone()), destination("lab", nights)]);
    for to in ["ward", "lab"] {
        rig.hand_in(to, "p", "70".into()).await;
    }
    pass(30).await;
    // The clock is set: the tick notices, at the latest.
    rig.clock.step(SignedDuration::from_hours(7));
    pass(61).await;
    assert_eq!((rig.taken("ward").len(), rig.taken("lab").len()), (0, 0), "starts are drawn anew from here");
    pass(400).await;
    assert_eq!((rig.taken("ward").len(), rig.taken("lab").len()), (1, 1));
}

#[actix::test]
async fn what_only_was_open_for_longer_is_no_change() {
    tokio::time::pause();
    let rig = Rig::new((0..DESTINATIONS).map(|n| destination(&format!("d{n}"), agreement())).collect());
    for n in 0..DESTINATIONS {
        rig.hand_in(&format!("d{n}"), "p", "70".into()).await;
    }
    pass(650).await;
    let before = rig.seen().await;
    // Ten sweeps of the outbox, each of which counts how long every destination has been open, and half a full look.
    pass(300).await;
    let after = rig.seen().await;
    assert!(after.rounds > before.rounds);
    assert!(after.looked_at <= before.looked_at + DESTINATIONS, "{before:?} {after:?}");
}
