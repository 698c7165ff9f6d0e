//! A broker in memory: keeps a persistent session, delivers at QoS 0 and 1, and redelivers with DUP and the same packet id.
//!
//! It stands for the broker *and* the adapter: `run` is a connection after the other. It behaves as mosquitto does where that
//! matters: at most [`WINDOW`] publications are under way, an acknowledged packet id is used again, and a lost session forgets
//! everything. What is announced it keeps for the test to look at. The one difference is that nothing is ever dropped because a queue is full.

use crate::ports::source::{AckToken, AnnounceError, Announcement, Source, SourceEvent};
use futures_util::{FutureExt, future::BoxFuture};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tidegate_schemas::submission::{Origin, Payload, Publication, Redelivery};
use tokio::sync::{Notify, mpsc};

/// Publications under way and not acknowledged (mosquitto's `max_inflight_messages`).
pub const WINDOW: usize = 20;
/// From one connection to the next.
pub const RECONNECT: Duration = Duration::from_secs(1);

/// Called at every acknowledgement that counts, with the publication.
pub type AckHook = Box<dyn Fn(&Publication) + Send>;

/// The broker. Cheap to clone; clones are the same broker.
#[derive(Clone, Default)]
pub struct FakeSource {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
}
impl std::fmt::Debug for FakeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeSource").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    session: Option<u64>,
    sessions: u64,
    had_session: bool,
    connection: Option<u64>,
    connections: u64,
    last_packet_id: u16,
    queue: VecDeque<Queued>,
    at_most_once: VecDeque<Publication>,
    drop_now: Option<(String, bool)>,
    filters: Vec<Vec<String>>,
    acked: Vec<AckToken>,
    void: u64,
    out_of_order: u64,
    hook: Option<AckHook>,
    handed_over: u64,
    announced: Vec<Announcement>,
    retained: BTreeMap<String, Announcement>,
    manner: AnnounceManner,
}

/// How the broker takes what is announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnnounceManner {
    /// It answers at once.
    #[default]
    Answers,
    /// It never answers.
    Silent,
    /// It answers after so long.
    After(Duration),
    /// Our user may not publish.
    Refuses,
}

struct Queued {
    publication: Publication,
    packet_id: u16,
    /// The connection on which it was sent last.
    sent_on: Option<u64>,
}

impl FakeSource {
    /// A broker without a session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes at QoS 1; kept until it is acknowledged.
    pub fn publish(&self, topic: &str, payload: impl Into<bytes::Bytes>) {
        self.publish_as(publication(topic, payload, Origin::MqttQos1));
    }

    /// Publishes at QoS 0; dropped unless we are connected.
    pub fn publish_at_most_once(&self, topic: &str, payload: impl Into<bytes::Bytes>) {
        self.publish_as(publication(topic, payload, Origin::MqttQos0));
    }

    /// Publishes a publication that the test made; its origin says at which QoS. The redelivery mark is the broker's to set.
    pub fn publish_as(&self, publication: Publication) {
        let mut inner = self.lock();
        if publication.origin == Origin::MqttQos0 {
            if inner.connection.is_some() {
                inner.at_most_once.push_back(publication);
            }
        } else {
            let packet_id = inner.free_packet_id();
            inner.queue.push_back(Queued { publication, packet_id, sent_on: None });
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Ends the connection; another one follows.
    pub fn disconnect(&self, reason: &str, taken_over: bool) {
        self.lock().drop_now = Some((reason.to_owned(), taken_over));
        self.changed.notify_one();
    }

    /// Forgets the session and all that it held.
    pub fn lose_session(&self) {
        let mut inner = self.lock();
        inner.session = None;
        inner.queue.clear();
    }

    /// Calls this at every acknowledgement that counts.
    pub fn on_ack(&self, hook: AckHook) {
        self.lock().hook = Some(hook);
    }

    /// Acknowledgements that counted, in their order.
    #[must_use]
    pub fn acked(&self) -> Vec<AckToken> {
        self.lock().acked.clone()
    }

    /// Acknowledgements that came on another connection than the delivery, or twice.
    #[must_use]
    pub fn void_acks(&self) -> u64 {
        self.lock().void
    }

    /// Acknowledgements that overtook an earlier delivery of the same connection.
    #[must_use]
    pub fn acks_out_of_order(&self) -> u64 {
        self.lock().out_of_order
    }

    /// Publications at QoS 1 that are not acknowledged.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.lock().queue.len()
    }

    /// Whether a connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.lock().connection.is_some()
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.lock().connections
    }

    /// All that was announced and taken, in order.
    #[must_use]
    pub fn announced(&self) -> Vec<Announcement> {
        self.lock().announced.clone()
    }

    /// How much was announced while a connection was up, whether it was taken or not.
    #[must_use]
    pub fn handed_over(&self) -> u64 {
        self.lock().handed_over
    }

    /// What somebody who subscribes now is told there.
    #[must_use]
    pub fn retained(&self, topic: &str) -> Option<Announcement> {
        self.lock().retained.get(topic).cloned()
    }

    /// How it takes what is announced from now on.
    pub fn set_announce_manner(&self, manner: AnnounceManner) {
        self.lock().manner = manner;
    }

    /// The filters of every `run`.
    #[must_use]
    pub fn filters(&self) -> Vec<Vec<String>> {
        self.lock().filters.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> SourceEvent {
        let mut inner = self.lock();
        inner.connections += 1;
        inner.connection = Some(inner.connections);
        let session_present = inner.session.is_some();
        let session_expected = inner.had_session;
        if !session_present {
            inner.sessions += 1;
            inner.session = Some(inner.sessions);
        }
        inner.had_session = true;
        inner.drop_now = None;
        SourceEvent::Connected { connection: inner.connections, session_present, session_expected }
    }

    /// What the broker would send next on this connection, if anything.
    fn next(&self, connection: u64) -> Option<SourceEvent> {
        let mut inner = self.lock();
        if let Some((reason, taken_over)) = inner.drop_now.take() {
            inner.connection = None;
            inner.at_most_once.clear();
            return Some(SourceEvent::Disconnected { reason, taken_over });
        }
        if let Some(publication) = inner.at_most_once.pop_front() {
            return Some(SourceEvent::Publication { publication, token: None });
        }
        let session = inner.session.unwrap_or_default();
        let under_way = inner.queue.iter().filter(|queued| queued.sent_on == Some(connection)).count();
        let queued = inner.queue.iter_mut().find(|queued| queued.sent_on != Some(connection))?;
        if under_way >= WINDOW {
            return None;
        }
        let dup = queued.sent_on.is_some();
        queued.sent_on = Some(connection);
        let packet_id = queued.packet_id;
        let redelivery = Some(Redelivery::Mqtt { session, packet_id, dup });
        Some(SourceEvent::Publication {
            publication: Publication { redelivery, ..queued.publication.clone() },
            token: Some(AckToken { connection, packet_id }),
        })
    }
}

impl Inner {
    fn free_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if self.queue.iter().all(|queued| queued.packet_id != self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }
}

/// A publication as a broker hands it over, without a redelivery mark.
#[must_use]
pub fn publication(topic: &str, payload: impl Into<bytes::Bytes>, origin: Origin) -> Publication {
    Publication {
        topic: topic.to_owned(),
        payload: Payload::new(payload),
        content_type: None,
        user_properties: Vec::new(),
        expiry_s: None,
        reply_to: None,
        retained: false,
        origin,
        redelivery: None,
    }
}

/// Ends the connection when `run` is dropped.
struct Line(FakeSource);
impl Drop for Line {
    fn drop(&mut self) {
        self.0.lock().connection = None;
    }
}

impl Source for FakeSource {
    fn describe(&self) -> String {
        "a broker in memory".to_owned()
    }

    fn run(&self, filters: Vec<String>, events: mpsc::Sender<SourceEvent>) -> BoxFuture<'static, ()> {
        self.lock().filters.push(filters);
        let broker = self.clone();
        async move {
            let _line = Line(broker.clone());
            loop {
                let connected = broker.connect();
                let SourceEvent::Connected { connection, .. } = connected else { return };
                if events.send(connected).await.is_err() {
                    return;
                }
                loop {
                    match broker.next(connection) {
                        Some(event) => {
                            let over = matches!(event, SourceEvent::Disconnected { .. });
                            if events.send(event).await.is_err() {
                                return;
                            }
                            if over {
                                break;
                            }
                        }
                        None => tokio::select! {
                            () = broker.changed.notified() => {}
                            () = events.closed() => return,
                        },
                    }
                }
                tokio::time::sleep(RECONNECT).await;
            }
        }
        .boxed()
    }

    fn ack(&self, token: AckToken) -> bool {
        let mut inner = self.lock();
        let place = inner
            .queue
            .iter()
            .position(|queued| queued.packet_id == token.packet_id && queued.sent_on == Some(token.connection));
        let (Some(place), true) = (place, inner.connection == Some(token.connection)) else {
            inner.void += 1;
            return false;
        };
        if inner.queue.iter().take(place).any(|queued| queued.sent_on == Some(token.connection)) {
            inner.out_of_order += 1;
        }
        let queued = inner.queue.remove(place);
        inner.acked.push(token);
        if let (Some(hook), Some(queued)) = (&inner.hook, &queued) {
            hook(&queued.publication);
        }
        drop(inner);
        self.changed.notify_one();
        true
    }

    fn connection(&self) -> Option<u64> {
        self.lock().connection
    }

    fn announce(&self, announcement: Announcement) -> BoxFuture<'static, Result<(), AnnounceError>> {
        let Some(connection) = self.connection() else {
            return std::future::ready(Err(AnnounceError::NotConnected)).boxed();
        };
        let broker = self.clone();
        let manner = {
            let mut inner = self.lock();
            inner.handed_over += 1;
            inner.manner
        };
        async move {
            match manner {
                AnnounceManner::Answers => {}
                AnnounceManner::Silent => std::future::pending().await,
                AnnounceManner::After(time) => tokio::time::sleep(time).await,
                AnnounceManner::Refuses => return Err(AnnounceError::Refused("NotAuthorized".to_owned())),
            }
            let mut inner = broker.lock();
            if inner.connection != Some(connection) {
                return Err(AnnounceError::Lost);
            }
            if announcement.retained {
                inner.retained.insert(announcement.topic.clone(), announcement.clone());
            }
            inner.announced.push(announcement);
            Ok(())
        }
        .boxed()
    }
}
