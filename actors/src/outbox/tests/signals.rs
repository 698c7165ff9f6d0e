//! Signals and pauses: what is heard, how often, for how long, once, and over a restart.

use super::*;
use tidegate_schemas::{
    agreement::SignalPolicy,
    messages::outbox::{SignalSource, SignalWord},
};

const HEARD: SignalPolicy =
    SignalPolicy { accept: true, ttl_max: SignedDuration::from_mins(15), only: false, per_hour: 4 };

async fn say(outbox: &Addr<Outbox>, word: SignalWord, sequence: Option<u64>) -> Result<SignalTaken, SignalError> {
    say_by(outbox, word, sequence, HEARD).await
}

async fn say_by(
    outbox: &Addr<Outbox>,
    word: SignalWord,
    sequence: Option<u64>,
    policy: SignalPolicy,
) -> Result<SignalTaken, SignalError> {
    let from = if sequence.is_some() { SignalSource::Destination } else { SignalSource::Operator };
    outbox.send(Signal { destination: "ward".parse().unwrap(), word, policy, from, sequence }).await.unwrap()
}

async fn load(outbox: &Addr<Outbox>) -> DestinationLoad {
    let loads = outbox.send(Loads).await.unwrap();
    loads.into_iter().find(|load| load.destination.as_str() == "ward").unwrap()
}

/// (ready, seconds left)
async fn holds(outbox: &Addr<Outbox>) -> Option<(bool, u64)> {
    load(outbox).await.signal.map(|signal| (signal.ready, signal.left_ms.div_ceil(1_000)))
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[actix::test]
async fn a_signal_holds_for_its_time_within_the_agreement_and_then_no_more() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    assert_eq!(say(&outbox, SignalWord::Ready(600), None).await, Ok(SignalTaken { holds_s: 600 }));
    assert_eq!(holds(&outbox).await, Some((true, 600)));
    pass(599).await;
    assert_eq!(holds(&outbox).await, Some((true, 1)));
    pass(1).await;
    assert_eq!(holds(&outbox).await, None);
    // Longer than agreed is as long as agreed; the last word holds.
    assert_eq!(say(&outbox, SignalWord::Ready(86_400), None).await, Ok(SignalTaken { holds_s: 900 }));
    assert_eq!(say(&outbox, SignalWord::NotNow(60), None).await, Ok(SignalTaken { holds_s: 60 }));
    assert_eq!(holds(&outbox).await, Some((false, 60)));
    assert_eq!(say(&outbox, SignalWord::Clear, None).await, Ok(SignalTaken { holds_s: 0 }));
    assert_eq!(holds(&outbox).await, None);
}

#[actix::test]
async fn so_many_are_honoured_in_an_hour_whoever_gives_them_and_a_restart_refills_nothing() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    for number in 1..=4 {
        say(&outbox, SignalWord::Ready(60), (number % 2 == 0).then_some(number)).await.unwrap();
        pass(60).await;
    }
    let Err(SignalError::TooMany { wait_s }) = say(&outbox, SignalWord::Ready(60), None).await else {
        panic!("the fifth was honoured")
    };
    assert!((3_360..=3_361).contains(&wait_s), "an hour after the first: {wait_s}");
    assert_eq!(holds(&outbox).await, None, "nothing of it holds");
    // Taking a word back makes nobody build a circuit.
    say(&outbox, SignalWord::Clear, None).await.unwrap();
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    assert!(matches!(say(&outbox, SignalWord::NotNow(60), None).await, Err(SignalError::TooMany { .. })));
    pass(u64::from(wait_s)).await;
    say(&outbox, SignalWord::Ready(60), None).await.unwrap();
}

#[actix::test]
async fn a_number_is_heard_once_and_never_a_lower_one_not_even_after_a_restart() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    say(&outbox, SignalWord::Ready(600), Some(100)).await.unwrap();
    pass(300).await;
    for old in [100, 99, 0] {
        assert_eq!(say(&outbox, SignalWord::Ready(600), Some(old)).await, Err(SignalError::Repeated));
    }
    assert_eq!(holds(&outbox).await, Some((true, 300)), "a repetition prolongs nothing");
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    assert_eq!(say(&outbox, SignalWord::Clear, Some(100)).await, Err(SignalError::Repeated));
    assert_eq!(holds(&outbox).await, Some((true, 300)), "it outlives the restart");
    // Repetitions use nothing up: three more are honoured.
    for number in 101..=103 {
        say(&outbox, SignalWord::Ready(600), Some(number)).await.unwrap();
    }
    assert!(matches!(say(&outbox, SignalWord::Ready(600), Some(104)).await, Err(SignalError::TooMany { .. })));
    pass(3_600).await;
    assert_eq!(say(&outbox, SignalWord::Ready(600), Some(104)).await, Err(SignalError::Repeated), "its time is over");
    say(&outbox, SignalWord::Ready(600), Some(105)).await.unwrap();
}

#[actix::test]
async fn an_agreement_without_signals_hears_none_and_a_pause_needs_no_agreement() {
    let rig = Rig::new();
    let outbox = rig.start();
    let deaf = SignalPolicy { accept: false, ..HEARD };
    assert_eq!(say_by(&outbox, SignalWord::Ready(60), None, deaf).await, Err(SignalError::NotAccepted));
    for paused in [true, false, true] {
        outbox.send(SetPaused { destination: "ward".parse().unwrap(), paused }).await.unwrap().unwrap();
        assert_eq!(load(&outbox).await.paused, paused);
    }
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    assert!(load(&outbox).await.paused, "it outlives a restart");
}

#[actix::test]
async fn a_store_that_fails_has_heard_nothing() {
    let rig = Rig::new();
    let outbox = rig.start();
    say(&outbox, SignalWord::NotNow(60), Some(1)).await.unwrap();
    rig.store.fail_next(1, CommitFault::Full);
    assert!(matches!(say(&outbox, SignalWord::Ready(60), Some(2)).await, Err(SignalError::Store(_))));
    assert_eq!(holds(&outbox).await, Some((false, 60)));
    say(&outbox, SignalWord::Ready(60), Some(2)).await.unwrap();
}

#[actix::test]
async fn after_a_stop_of_unknown_length_a_ready_is_over_and_not_now_still_holds() {
    tokio::time::pause();
    for (trusted_before, trusted_after, measured) in [(true, true, true), (false, true, false), (true, false, false)] {
        for ready_word in [true, false] {
            let rig = Rig::new();
            rig.clock.set_trusted(trusted_before);
            let outbox = rig.start();
            let word = if ready_word { SignalWord::Ready(600) } else { SignalWord::NotNow(600) };
            say(&outbox, word, None).await.unwrap();
            pass(60).await;
            outbox.send(Shutdown).await.unwrap();
            while outbox.connected() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            rig.clock.set_trusted(trusted_after);
            let outbox = rig.start();
            ready(&outbox).await;
            let expected = (measured || !ready_word).then_some(ready_word);
            assert_eq!(holds(&outbox).await.map(|(ready, _)| ready), expected, "{trusted_before} {trusted_after}");
            if expected.is_none() {
                pass(1).await;
                say(&outbox, SignalWord::Ready(60), None).await.unwrap();
                rig.store.fail_next(1, CommitFault::Full);
                assert!(say(&outbox, SignalWord::Ready(60), None).await.is_err());
                assert!(holds(&outbox).await.is_some(), "one that came after holds, also when all is read anew");
            }
        }
    }
}
