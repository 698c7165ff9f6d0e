//! What a broker's connection hands in behind a message that could not be taken comes again in its order (OR-1).

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

fn message(body: &str, stream: Option<u64>) -> Enqueue {
    Enqueue { submission: submission("p", body.to_owned()), limits: LIMITS, break_glass_per_hour: None, stream }
}

async fn bodies(outbox: &Addr<Outbox>) -> Vec<String> {
    let picked = pick(outbox).await;
    picked.iter().map(|entry| String::from_utf8(entry.body.reveal().to_vec()).unwrap()).collect()
}

/// The first commit of a message takes long and fails; meanwhile more is handed in.
async fn handed_in_while_the_first_fails(streams: [Option<u64>; 3]) -> (Rig, Addr<Outbox>, Vec<bool>) {
    let rig = Rig::new();
    let outbox = rig.start();
    ready(&outbox).await;
    let (begun, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (has_begun, may_go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
    rig.store.on_commit(Arc::new(move |_| {
        has_begun.store(true, Ordering::SeqCst);
        while !may_go_on.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }));
    rig.store.fail_next(1, CommitFault::Io);
    let first = outbox.send(message("1", streams[0]));
    let first = tokio::task::spawn_local(first);
    while !begun.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let second = tokio::task::spawn_local(outbox.send(message("2", streams[1])));
    let third = tokio::task::spawn_local(outbox.send(message("3", streams[2])));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    go_on.store(true, Ordering::SeqCst);
    let mut taken = Vec::new();
    for answer in [first, second, third] {
        taken.push(answer.await.unwrap().unwrap().is_ok());
    }
    (rig, outbox, taken)
}

#[actix::test]
async fn what_is_behind_a_failure_is_not_taken_and_comes_again_in_its_order() {
    let (_rig, outbox, taken) = handed_in_while_the_first_fails([Some(1), Some(1), Some(2)]).await;
    assert_eq!(taken, [false, false, true], "the third is of another stream");
    for body in ["1", "2"] {
        assert!(outbox.send(message(body, Some(1))).await.unwrap().is_err(), "the stream has ended");
        outbox.send(message(body, Some(2))).await.unwrap().unwrap();
    }
    assert_eq!(bodies(&outbox).await, ["3", "1", "2"]);
}

#[actix::test]
async fn who_waits_for_each_answer_is_no_stream() {
    let (_rig, outbox, taken) = handed_in_while_the_first_fails([None, None, None]).await;
    assert_eq!(taken, [false, true, true]);
    assert_eq!(bodies(&outbox).await, ["2", "3"]);
}

#[actix::test]
async fn a_gateway_that_is_full_takes_no_smaller_one_behind_the_one_that_it_refused() {
    let rig = Rig::new();
    let outbox = rig.start_with(Limits { max_bytes: 100, ..Limits::default() });
    ready(&outbox).await;
    let large = outbox.send(message(&"x".repeat(101), Some(4))).await.unwrap();
    assert!(matches!(large, Err(EnqueueError::GatewayFull(_))), "{large:?}");
    assert!(outbox.send(message("small", Some(4))).await.unwrap().is_err());
    outbox.send(message("small", Some(5))).await.unwrap().unwrap();
    outbox.send(message("small", None)).await.unwrap().unwrap();
}
