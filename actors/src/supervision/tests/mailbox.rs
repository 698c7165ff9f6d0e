//! What actix does with a full mailbox, and [`ask`].

use crate::supervision::{AskError, ask};
use actix::prelude::*;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(1);

/// An actor that is busy for a second before it looks into its mailbox.
struct Busy;

impl Actor for Busy {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.wait(tokio::time::sleep(BUSY).into_actor(self));
    }
}

#[derive(Message)]
#[rtype(result = "u8")]
struct Ping;

impl Handler<Ping> for Busy {
    type Result = u8;

    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> u8 {
        7
    }
}

fn fill(addr: &Addr<Busy>) {
    let mut sent = 0;
    while addr.try_send(Ping).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 16, "the default capacity");
}

#[actix::test]
async fn a_request_enters_a_full_mailbox_past_its_bound_and_try_send_does_not() {
    tokio::time::pause();
    let addr = Busy.start();
    fill(&addr);
    let requests: Vec<_> = (0..100)
        .map(|_| {
            let addr = addr.clone();
            actix::spawn(async move { ask(&addr, Ping, LIMIT).await })
        })
        .collect();
    assert!(addr.try_send(Ping).is_err());
    for request in requests {
        assert_eq!(request.await.expect("the task ran"), Ok(7));
    }
}

#[actix::test]
async fn a_request_through_the_very_address_that_filled_the_mailbox_is_answered_too() {
    tokio::time::pause();
    let addr = Busy.start();
    fill(&addr);
    // In a task of its own: the test's own future is looked at whenever anything happens on its thread.
    let asked = actix::spawn(async move { ask(&addr, Ping, LIMIT).await });
    assert_eq!(asked.await.expect("the task ran"), Ok(7));
}

#[actix::test]
async fn ask_tells_a_slow_actor_from_an_ended_one() {
    tokio::time::pause();
    let addr = Busy.start();
    assert_eq!(ask(&addr, Ping, BUSY / 2).await, Err(AskError::TimedOut));

    struct Gone;
    impl Actor for Gone {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }
    impl Handler<Ping> for Gone {
        type Result = u8;
        fn handle(&mut self, _: Ping, _: &mut Self::Context) -> u8 {
            0
        }
    }
    assert_eq!(ask(&Gone.start(), Ping, LIMIT).await, Err(AskError::Closed));
}
