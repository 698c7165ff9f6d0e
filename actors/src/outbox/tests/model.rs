//! Random histories against a plain model: every acknowledged message is in exactly one state, and what is marked and counted is so.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    Enqueue(u8),
    Settle(u8, Event),
    Operate(u8, Event),
    Fault(CommitFault),
    Restart,
    Advance(u16),
    Report,
}

fn act() -> impl Strategy<Value = Act> {
    let event = prop::sample::select(vec![Event::Deliver, Event::Deliver, Event::Park, Event::Refuse, Event::Hold]);
    let operation = prop::sample::select(vec![Event::Hold, Event::Release, Event::Retry, Event::Purge]);
    let fault = prop::sample::select(vec![CommitFault::Full, CommitFault::Io, CommitFault::LostBeforeFlush]);
    prop_oneof![
        6 => any::<u8>().prop_map(Act::Enqueue),
        6 => (any::<u8>(), event).prop_map(|(n, e)| Act::Settle(n, e)),
        3 => (any::<u8>(), operation).prop_map(|(n, e)| Act::Operate(n, e)),
        1 => fault.prop_map(Act::Fault),
        1 => Just(Act::Restart),
        1 => (1_u16..2_000).prop_map(Act::Advance),
        1 => Just(Act::Report),
    ]
}

/// The model: the state of every acknowledged entry, by its place.
type Model = std::collections::BTreeMap<u64, EntryState>;

async fn play(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let rig = Rig::new();
    let mut outbox = rig.start();
    let mut model = Model::new();
    for act in acts {
        let place = |n: u8, model: &Model| model.keys().nth(usize::from(n) % model.len().max(1)).copied();
        match act {
            Act::Enqueue(n) => {
                if let Ok(accepted) =
                    enqueue(&outbox, submission(&format!("d{}", n % 3), vec![n; usize::from(n) * 40])).await
                {
                    model.insert(accepted.entry.seq, EntryState::Queued);
                }
            }
            Act::Settle(n, event) => {
                if let Some(seq) = place(n, &model) {
                    let settlements = vec![Settlement { seq, event, error: None, receipt: None }];
                    let message = Settle {
                        destination: "ward".parse().unwrap(),
                        settlements,
                        head_of_line: HeadOfLine::default(),
                        retry: RetryPolicy::default(),
                        busy_ms: 0,
                    };
                    if let Ok(settled) = outbox.send(message).await.unwrap() {
                        let expected = model[&seq].on(event);
                        prop_assert_eq!(expected.is_err(), !settled.overtaken.is_empty());
                        if let Ok(next) = expected {
                            model.insert(seq, next);
                        }
                        if settled.everything_refused {
                            // Which of them are back is the streak's business: ask the outbox.
                            resync(&outbox, &mut model).await;
                        }
                    }
                }
            }
            Act::Operate(n, event) => {
                if let Some(seq) = place(n, &model) {
                    match operate(&outbox, seq, event).await {
                        Ok(state) => {
                            prop_assert_eq!(model[&seq].on(event), Ok(state));
                            model.insert(seq, state);
                        }
                        Err(OperateError::Illegal(_) | OperateError::Unknown(_)) => {
                            prop_assert!(model[&seq].on(event).is_err());
                        }
                        Err(OperateError::Store(_)) => {}
                    }
                }
            }
            Act::Fault(fault) => rig.store.fail_next(1, fault),
            Act::Restart => {
                outbox.send(Shutdown).await.unwrap();
                while outbox.connected() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                outbox = rig.start();
                ready(&outbox).await;
            }
            Act::Advance(seconds) => {
                tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
                resync(&outbox, &mut model).await;
            }
            Act::Report => {
                if let Ok(Some(batch)) = outbox.send(PendingReports { count_max: 10 }).await.unwrap() {
                    let _ = outbox.send(Reported { last: batch.last, event_id: "$e".into() }).await.unwrap();
                }
            }
        }
        check(&outbox, &model).await?;
    }
    Ok(())
}

/// Entries that ended by themselves: expired ones.
async fn resync(outbox: &Addr<Outbox>, model: &mut Model) {
    for (seq, state) in model.iter_mut() {
        let place = EntryRef { destination: "ward".parse().unwrap(), seq: *seq };
        match outbox.send(Show { name: EntryName::Place(place) }).await.unwrap().unwrap() {
            Some(Shown::Waiting(view)) => *state = view.state,
            Some(Shown::Ended(view)) => *state = view.state,
            None => panic!("an acknowledged entry is nowhere"),
        }
    }
}

async fn check(outbox: &Addr<Outbox>, model: &Model) -> Result<(), TestCaseError> {
    let seen = observe(outbox).await;
    prop_assert_eq!(seen.gap, 0);
    let mut account = seen.account;
    for state in EntryState::ALL {
        let expected = model.values().filter(|s| **s == state).count() as u64;
        prop_assert_eq!(*account.slot(state), expected, "{:?}", state);
    }
    let queued: Vec<u64> = model.iter().filter(|(_, s)| **s == EntryState::Queued).map(|(seq, _)| *seq).collect();
    let picked: Vec<u64> = pick(outbox).await.iter().map(|e| e.seq).collect();
    prop_assert_eq!(picked, queued);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_acknowledged_entry_is_in_exactly_one_state(acts in prop::collection::vec(act(), 1..60)) {
        actix::System::new().block_on(async move {
            tokio::time::pause();
            play(acts).await
        })?;
    }
}
