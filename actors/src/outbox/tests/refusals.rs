//! Whose fault a row of refusals is, whatever the size of the answers.

use super::*;

async fn settle_all(outbox: &Addr<Outbox>, events: &[(u64, Event)]) -> tidegate_schemas::messages::outbox::Settled {
    let settlement = |(seq, event): &(u64, Event)| {
        let error = (*event != Event::Deliver).then_some(DeliveryError::Status(422));
        Settlement { seq: *seq, event: *event, error, receipt: None }
    };
    let settlements = events.iter().map(settlement).collect();
    outbox
        .send(Settle {
            destination: "ward".parse().unwrap(),
            settlements,
            head_of_line: HeadOfLine::default(),
            retry: RetryPolicy::default(),
            busy_ms: 0,
        })
        .await
        .unwrap()
        .unwrap()
}

#[actix::test]
async fn all_of_a_large_answer_that_refuses_everything_comes_back() {
    for batch in [10, 11, 15, 100] {
        let rig = Rig::new();
        let outbox = rig.start();
        for _ in 0..batch {
            enqueue(&outbox, submission("p", "x")).await.unwrap();
        }
        let events: Vec<_> = (1..=batch).map(|seq| (seq, Event::Park)).collect();
        assert!(settle_all(&outbox, &events).await.everything_refused);
        let seen = observe(&outbox).await;
        assert_eq!((seen.account.parked, seen.account.queued, seen.gap), (0, batch, 0));
    }
}

#[actix::test]
async fn an_answer_that_took_one_entry_is_no_row_of_refusals() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..40 {
        enqueue(&outbox, submission("p", "x")).await.unwrap();
    }
    let mut events: Vec<_> = (1..=20).map(|seq| (seq, Event::Park)).collect();
    events.push((21, Event::Deliver));
    assert!(!settle_all(&outbox, &events).await.everything_refused);
    let nine: Vec<_> = (22..=30).map(|seq| (seq, Event::Park)).collect();
    assert!(!settle_all(&outbox, &nine).await.everything_refused, "the row begins after the success");
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.parked, seen.account.delivered, seen.gap), (29, 1, 0));
    assert!(settle_all(&outbox, &[(31, Event::Park)]).await.everything_refused);
    assert_eq!(observe(&outbox).await.account.parked, 20);
}
