//! What the gateway itself publishes on a connection: at QoS 1, few at a time, each answered when the broker has it.
//!
//! rumqttc draws the packet ids, and tells in the order of the requests which one each got: so those that are handed over wait in
//! line for their number, and then under it for the broker's answer. Nothing of it outlives the connection.
//!
//! **Never in front of an acknowledgement.** rumqttc stops reading *all* requests, acknowledgements too, while as many publications
//! are under way as the broker takes (MQTT 5 receive maximum). So fewer than that are ever handed over: the rest wait for a permit.

use super::wire::Client;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tidegate_actors::ports::source::{AnnounceError, Announcement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Publications of our own under way at once, at most (a count). rumqttc's own limit over 3.1.1 is 100.
const UNDER_WAY_MAX: u16 = 64;

/// What is under way on one connection.
pub(super) struct Outgoing {
    client: Client,
    permits: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Handed over, and without a packet id yet.
    waiting: VecDeque<Ticket>,
    /// By packet id.
    under_way: HashMap<u16, Ticket>,
}

struct Ticket {
    told: oneshot::Sender<Result<(), AnnounceError>>,
    _permit: OwnedSemaphorePermit,
}

type Answer = oneshot::Receiver<Result<(), AnnounceError>>;

impl Outgoing {
    /// For a connection whose broker takes so many at once.
    pub fn new(client: Client, receive_maximum: u16) -> Self {
        // A broker that takes a single one holds up what is behind it, for one answer.
        let under_way_max = UNDER_WAY_MAX.min(receive_maximum.saturating_sub(1)).max(1);
        let permits = Arc::new(Semaphore::new(usize::from(under_way_max)));
        Self { client, permits, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands it over if there is room, else when there is.
    pub fn announce(
        self: Arc<Self>,
        announcement: Announcement,
    ) -> impl Future<Output = Result<(), AnnounceError>> + Send + 'static {
        let at_once = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Some(self.hand_over(&announcement, permit)),
            Err(_) => None,
        };
        async move {
            let answer = match at_once {
                Some(answer) => answer,
                None => {
                    let permit = Arc::clone(&self.permits).acquire_owned().await;
                    self.hand_over(&announcement, permit.map_err(|_| AnnounceError::NotConnected)?)
                }
            };
            answer.await.unwrap_or(Err(AnnounceError::Lost))
        }
    }

    fn hand_over(&self, announcement: &Announcement, permit: OwnedSemaphorePermit) -> Answer {
        let (told, answer) = oneshot::channel();
        // Under the lock, so that the line is in the order of the requests.
        let mut table = self.table();
        if self.client.publish(announcement) {
            table.waiting.push_back(Ticket { told, _permit: permit });
        }
        answer
    }

    /// The next in line has this packet id.
    pub fn sent(&self, packet_id: u16) {
        let mut table = self.table();
        if let Some(ticket) = table.waiting.pop_front() {
            table.under_way.insert(packet_id, ticket);
        }
    }

    /// The broker answered.
    pub fn answered(&self, packet_id: u16, refused: Option<String>) {
        if let Some(ticket) = self.table().under_way.remove(&packet_id) {
            // Whoever asked may be gone.
            let _ = ticket.told.send(refused.map_or(Ok(()), |reason| Err(AnnounceError::Refused(reason))));
        }
    }

    /// The connection is gone: nobody is answered any more.
    pub fn close(&self) {
        self.permits.close();
        *self.table() = Table::default();
    }
}
