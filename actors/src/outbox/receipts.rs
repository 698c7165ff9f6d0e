//! What devices have not heard yet.

use super::Outbox;
use actix::prelude::*;
use tidegate_schemas::messages::outbox::{PendingReceipts, Receipted};

impl Handler<PendingReceipts> for Outbox {
    type Result = MessageResult<PendingReceipts>;
    fn handle(&mut self, _: PendingReceipts, _: &mut Self::Context) -> Self::Result {
        MessageResult(Ok(Vec::new()))
    }
}

impl Handler<Receipted> for Outbox {
    type Result = MessageResult<Receipted>;
    fn handle(&mut self, _: Receipted, _: &mut Self::Context) -> Self::Result {
        MessageResult(Ok(()))
    }
}
