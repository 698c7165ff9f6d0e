//! Numbers that nobody had before.

use super::*;

async fn reserve(outbox: &Addr<Outbox>, count: u32) -> Result<u64, StoreError> {
    outbox.send(Reserve { count }).await.unwrap()
}

#[actix::test]
async fn a_number_is_given_once_across_restarts_and_failed_disks() {
    let rig = Rig::new();
    let outbox = rig.start();
    assert_eq!(reserve(&outbox, 1).await, Ok(0));
    assert_eq!(reserve(&outbox, 10).await, Ok(1));
    rig.store.fail_next(1, CommitFault::Io);
    assert!(reserve(&outbox, 1).await.is_err());
    assert_eq!(reserve(&outbox, 1).await, Ok(11));
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    assert_eq!(reserve(&outbox, 1).await, Ok(12));
}
