//! When the first attempt of an opening starts.

use super::*;

#[actix::test]
async fn starts_are_spread_over_a_small_part_of_each_opening() {
    tokio::time::pause();
    let nights = ServiceAgreement { windows: nightly("03:00", "05:00"), ..agreement() };
    let rig = Rig::new(vec![destination("ward", nights.clone()), destination("lab", nights)]);
    for night in 0..4 {
        for to in ["ward", "lab"] {
            rig.hand_in(to, "p", night.to_string()).await;
        }
        pass(86_400).await;
    }
    let opens: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
    let attempts = rig.transport.opened();
    let offset = |at: Timestamp| at.duration_since(opens).as_millis() % 86_400_000;
    let offsets: Vec<i128> = attempts.iter().map(|(_, _, at)| offset(*at)).collect();
    assert_eq!(offsets.len(), 8);
    assert!(offsets.iter().all(|offset| (0..=361_000).contains(offset)), "{offsets:?}");
    assert_eq!(offsets.iter().collect::<BTreeSet<_>>().len(), 8, "one draw each: {offsets:?}");
    assert!(offsets.iter().any(|offset| *offset > 30_000), "{offsets:?}");
}

#[actix::test]
async fn the_second_reading_of_an_opening_waits_for_no_draw() {
    tokio::time::pause();
    let windows = nightly("12:00", "20:00");
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { windows, ..agreement() })]);
    rig.hand_in("ward", "p", "1".into()).await;
    pass(1_300).await;
    assert_eq!(rig.taken("ward"), ["1"]);
    // The first courier has gone home meanwhile.
    rig.hand_in("ward", "p", "2".into()).await;
    pass(5).await;
    assert_eq!(rig.taken("ward"), ["1", "2"]);
}
