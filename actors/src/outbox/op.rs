//! What the writer's channel carries: a message that changes something, and where its answer goes.

use super::streams::StreamPlace;
use tidegate_schemas::{
    entry::EntryState,
    id::DestinationId,
    messages::outbox::{
        Budget, Enqueue, Fail, Ignore, Operate, OperateError, PendingReports, Quarantine, Receipted, ReportBatch,
        Reported, Reserve, SetPaused, Settle, Settled, Signal, SignalError, SignalTaken, Spend, StoreError, Sweep,
        Swept,
    },
};
use tokio::sync::oneshot::Sender;

/// A write and its answer's way back.
pub(super) enum Op {
    Enqueue(Box<Enqueue>, StreamPlace),
    Quarantine(Quarantine, Sender<Result<(), StoreError>>),
    Ignore(Ignore, Sender<Result<(), StoreError>>),
    Settle(Settle, Sender<Result<Settled, StoreError>>),
    Fail(Fail, Sender<Result<(), StoreError>>),
    Spend(Spend, Sender<Result<Budget, StoreError>>),
    Operate(Operate, Sender<Result<EntryState, OperateError>>),
    PendingReports(PendingReports, Sender<Result<Option<ReportBatch>, StoreError>>),
    Reported(Reported, Sender<Result<(), StoreError>>),
    Signal(Signal, Sender<Result<SignalTaken, SignalError>>),
    SetPaused(SetPaused, Sender<Result<(), StoreError>>),
    Reserve(Reserve, Sender<Result<u64, StoreError>>),
    Receipted(Receipted, Sender<Result<(), StoreError>>),
    /// Up to this ledger number no device has to hear of anything.
    PassReceipts(u64),
    /// Up to this ledger number everything is archived.
    Archived(u64),
    Sweep(Sweep, Sender<Result<Swept, StoreError>>),
    /// A reader found an entry that can't be decoded.
    Damaged(DestinationId, u64),
}

impl Op {
    /// Answers with the store's error. A receiver that is gone doesn't mind.
    pub fn fail(self, error: StoreError) {
        match self {
            Self::Enqueue(_, to) => to.answer(Err(error.into())),
            Self::Operate(_, to) => drop(to.send(Err(error.into()))),
            Self::Quarantine(_, to) => drop(to.send(Err(error))),
            Self::Ignore(_, to) => drop(to.send(Err(error))),
            Self::Settle(_, to) => drop(to.send(Err(error))),
            Self::Fail(_, to) => drop(to.send(Err(error))),
            Self::Spend(_, to) => drop(to.send(Err(error))),
            Self::PendingReports(_, to) => drop(to.send(Err(error))),
            Self::Reported(_, to) => drop(to.send(Err(error))),
            Self::Signal(_, to) => drop(to.send(Err(error.into()))),
            Self::SetPaused(_, to) => drop(to.send(Err(error))),
            Self::Reserve(_, to) => drop(to.send(Err(error))),
            Self::Receipted(_, to) => drop(to.send(Err(error))),
            Self::Sweep(_, to) => drop(to.send(Err(error))),
            Self::PassReceipts(_) | Self::Archived(_) | Self::Damaged(..) => {}
        }
    }
}
