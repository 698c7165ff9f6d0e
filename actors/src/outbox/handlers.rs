//! What the Outbox is told and asked: writes go to its writer, reads to a blocking thread beside it.

use super::{Outbox, STUCK, foresee, op::Op, pick, read, receipts};
use actix::prelude::*;
use tidegate_schemas::{
    id::EntryRef,
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{
            DeviceReceipt, Enqueue, EnqueueError, EntryPage, Fail, Foresee, Foreseen, Ignore, List, ListLedger,
            ListQuarantine, Operate, OperateError, PAGE_ENTRIES_MAX, PendingReceipts, PendingReports, Pick, Quarantine,
            Receipted, Reported, Reserve, SetPaused, Settle, Show, Signal, SignalError, SignalTaken, Spend,
            StillQueued, StoreError, Sweep,
        },
    },
    record::DestinationRecord,
    view::{LedgerView, Observation, OutboxObservation, QuarantineView, Shown},
};

macro_rules! write_handler {
    ($message:ident, $result:ty) => {
        impl Handler<$message> for Outbox {
            type Result = ResponseFuture<$result>;
            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                self.write(|to| Op::$message(message, to), |error| Err(error.into()))
            }
        }
    };
}

impl Handler<Enqueue> for Outbox {
    type Result = ResponseFuture<Result<tidegate_schemas::messages::outbox::Accepted, EnqueueError>>;
    fn handle(&mut self, message: Enqueue, _: &mut Self::Context) -> Self::Result {
        let streams = self.streams.clone();
        self.write(|to| streams.place(message, to), |error| Err(error.into()))
    }
}

write_handler!(Quarantine, Result<(), StoreError>);
write_handler!(Ignore, Result<(), StoreError>);
write_handler!(Settle, Result<tidegate_schemas::messages::outbox::Settled, StoreError>);
write_handler!(Fail, Result<(), StoreError>);
write_handler!(Spend, Result<tidegate_schemas::messages::outbox::Budget, StoreError>);
write_handler!(Operate, Result<tidegate_schemas::entry::EntryState, OperateError>);
write_handler!(PendingReports, Result<Option<tidegate_schemas::messages::outbox::ReportBatch>, StoreError>);
write_handler!(Reported, Result<(), StoreError>);
write_handler!(Receipted, Result<(), StoreError>);
write_handler!(Signal, Result<SignalTaken, SignalError>);
write_handler!(SetPaused, Result<(), StoreError>);
write_handler!(Reserve, Result<u64, StoreError>);
write_handler!(Sweep, Result<tidegate_schemas::messages::outbox::Swept, StoreError>);

impl Handler<Pick> for Outbox {
    type Result = ResponseFuture<Result<Vec<tidegate_schemas::entry::Entry>, StoreError>>;
    fn handle(&mut self, message: Pick, _: &mut Self::Context) -> Self::Result {
        let head = {
            let shared = self.shared();
            let number = shared.changes.number(&message.destination);
            number.and_then(|number| shared.loads.get(&number)).map(|(record, _)| record.head_seq)
        };
        let Some(head) = head else { return Box::pin(async { Ok(vec![]) }) };
        let (time, destination) = (self.custody_now(), message.destination.clone());
        let picking = self.read_in_turn(move |store| pick::pick(store, &message, &time, head));
        let ops = self.ops.clone();
        Box::pin(async move {
            let picked = picking.await?;
            for seq in picked.damaged {
                // The next pick finds it again if the channel is full.
                if let Some(ops) = &ops {
                    drop(ops.try_send(Op::Damaged(destination.clone(), seq)));
                }
            }
            Ok(picked.entries)
        })
    }
}

impl Handler<StillQueued> for Outbox {
    type Result = ResponseFuture<Result<Vec<u64>, StoreError>>;
    fn handle(&mut self, message: StillQueued, _: &mut Self::Context) -> Self::Result {
        let time = self.custody_now();
        self.read_in_turn(move |store| pick::still_queued(store, &message, &time))
    }
}

impl Handler<PendingReceipts> for Outbox {
    type Result = ResponseFuture<Result<Vec<DeviceReceipt>, StoreError>>;
    fn handle(&mut self, message: PendingReceipts, _: &mut Self::Context) -> Self::Result {
        let Some(after) = self.shared().receipted_no else { return Box::pin(async { Ok(vec![]) }) };
        let reading = self.read(move |store| receipts::pending(store, after, message.count_max));
        let ops = self.ops.clone();
        Box::pin(async move {
            let (receipts, passed) = reading.await?;
            if passed > after
                && let Some(ops) = ops
            {
                // The next look passes them again if the channel is full.
                drop(ops.try_send(Op::PassReceipts(passed)));
            }
            Ok(receipts)
        })
    }
}

impl Handler<List> for Outbox {
    type Result = ResponseFuture<Result<EntryPage, StoreError>>;
    fn handle(&mut self, message: List, _: &mut Self::Context) -> Self::Result {
        let time = self.custody_now();
        let names = message.destination.map_or_else(|| self.names(), |one| vec![one]);
        let filter = read::Filter { states: message.states, device: message.device, id: None };
        let limit = message.limit.clamp(1, PAGE_ENTRIES_MAX);
        let after: Option<EntryRef> = message.after;
        self.read(move |store| read::list(store, &names, &filter, after.as_ref(), limit, &time))
    }
}

impl Handler<Foresee> for Outbox {
    type Result = ResponseFuture<Result<Foreseen, StoreError>>;
    fn handle(&mut self, message: Foresee, _: &mut Self::Context) -> Self::Result {
        let (time, now) = (self.custody_now(), self.parts.clock.now());
        let known = self.shared().loads.values().find(|(r, _)| r.name == message.destination).map(|(r, _)| r.clone());
        let record = known.unwrap_or_else(|| DestinationRecord::new(message.destination.clone()));
        self.read(move |store| foresee::foresee(store, &message, &record, time, now))
    }
}

impl Handler<Show> for Outbox {
    type Result = ResponseFuture<Result<Option<Shown>, StoreError>>;
    fn handle(&mut self, message: Show, _: &mut Self::Context) -> Self::Result {
        let (time, names) = (self.custody_now(), self.names());
        self.read(move |store| read::show(store, &names, &message.name, &time))
    }
}

impl Handler<ListQuarantine> for Outbox {
    type Result = ResponseFuture<Result<Vec<QuarantineView>, StoreError>>;
    fn handle(&mut self, message: ListQuarantine, _: &mut Self::Context) -> Self::Result {
        self.read(move |store| read::quarantine(store, message.before, message.limit.clamp(1, PAGE_ENTRIES_MAX)))
    }
}

impl Handler<ListLedger> for Outbox {
    type Result = ResponseFuture<Result<Vec<LedgerView>, StoreError>>;
    fn handle(&mut self, message: ListLedger, _: &mut Self::Context) -> Self::Result {
        self.read(move |store| read::ledger(store, message.before, message.limit.clamp(1, PAGE_ENTRIES_MAX)))
    }
}

impl Handler<Observe> for Outbox {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let shared = self.shared();
        let mut seen =
            OutboxObservation { archive_failure: shared.archive_failure.clone(), ..shared.observation.clone() };
        // The actor answers whatever its disk does; a restart would not help a disk that hangs, but somebody has to be told.
        if let Some(since) = shared.at_work_since.filter(|since| since.elapsed() > STUCK) {
            seen.failure = Some(format!("the disk has not answered for {} s", since.elapsed().as_secs()));
        }
        MessageResult(Observation::Outbox(seen))
    }
}

impl Handler<Shutdown> for Outbox {
    type Result = ();
    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {
        // The last sender: the writer does what is in the channel, stores the time, ends, and the actor with it.
        self.ops = None;
    }
}
