//! Alarms through a closed window: where the agreement lets them, so many an hour, and nothing else with them.

use super::*;
use tidegate_schemas::{
    agreement::BreakGlass,
    messages::outbox::ListLedger,
    submission::{Priority, Submission},
};

/// Opens at night; at noon, when the tests begin, it is closed.
fn guarded(per_hour: Option<u16>) -> ServiceAgreement {
    let break_glass = per_hour.map(|per_hour| BreakGlass { per_hour });
    ServiceAgreement { windows: nightly("03:00", "05:00"), break_glass, ..agreement() }
}

async fn alarm(rig: &Rig, body: &str, per_hour: Option<u16>) {
    let submission = Submission { priority: Priority::BreakGlass, ..submission("bed", "ward", body.to_owned()) };
    let limits = tidegate_schemas::agreement::Limits::default();
    rig.outbox
        .send(Enqueue { submission, limits, break_glass_per_hour: per_hour, stream: None })
        .await
        .unwrap()
        .unwrap();
}

#[actix::test]
async fn alarms_go_through_a_closed_window_as_often_as_agreed_and_are_flagged() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", guarded(Some(2)))]);
    rig.hand_in("ward", "bed", "70".into()).await;
    pass(60).await;
    assert_eq!(rig.taken("ward"), [""; 0]);
    for body in ["alarm 1", "alarm 2", "alarm 3"] {
        alarm(&rig, body, Some(2)).await;
    }
    pass(60).await;
    // The third of the hour waits for the window, and so does every reading.
    assert_eq!(rig.taken("ward"), ["alarm 1", "alarm 2"]);
    let load = rig.load("ward").await;
    assert_eq!((load.queued, load.urgent, load.break_glass), (2, 1, 0), "{load:?}");
    let ledger = rig.outbox.send(ListLedger { before: None, limit: 10 }).await.unwrap().unwrap();
    assert!(ledger.len() == 2 && ledger.iter().all(|end| end.break_glass), "{ledger:?}");
    // 03:00: what is of high priority goes first.
    pass(17 * 3_600).await;
    assert_eq!(rig.taken("ward"), ["alarm 1", "alarm 2", "alarm 3", "70"]);
}

#[actix::test]
async fn where_no_alarm_was_agreed_or_the_destination_is_paused_none_goes_through() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", guarded(None)), destination("home", guarded(Some(2)))]);
    alarm(&rig, "not agreed", None).await;
    pass(60).await;
    assert_eq!(rig.taken("ward"), [""; 0]);
    let message = tidegate_schemas::messages::outbox::SetPaused { destination: ward(), paused: true };
    rig.outbox.send(message).await.unwrap().unwrap();
    pass(17 * 3_600).await;
    assert_eq!(rig.taken("ward"), [""; 0], "paused in its window");
}
