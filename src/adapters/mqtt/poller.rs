//! The poller: one connection after the other, for ever.

use super::{
    Line, READ_BYTES_MAX, SUBSCRIBE_MAX, Shared,
    backoff::Backoff,
    filters::without_covered,
    identity::SessionRecord,
    v5, v311,
    wire::{Cause, Delivery, Incoming, Lost, Opening, Wire},
};
use crate::crash_point::{self, CrashPoint};
use bytes::Bytes;
use std::{
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tidegate_actors::ports::source::{AckToken, Announcement, SourceEvent};
use tidegate_schemas::{
    config::file::MqttProtocol,
    submission::{PACKET_BYTES_MAX, Publication, Redelivery},
    tidings::Presence,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// A connection that the broker closed this soon counts towards the suspicion of a takeover.
const BRIEF: Duration = Duration::from_secs(10);
/// So many brief connections in a row raise it.
const BRIEF_IN_A_ROW: u32 = 3;
/// Largest password or CA file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The events' reader is gone.
struct Unheard;

/// Connects, subscribes, hands on, reconnects; ends when nobody hears the events.
pub(super) async fn run(shared: Arc<Shared>, filters: Vec<String>, events: mpsc::Sender<SourceEvent>) {
    let filters = without_covered(filters);
    let mut backoff = Backoff::default();
    let mut brief_in_a_row = 0;
    let mut packet_bytes_max = PACKET_BYTES_MAX;
    loop {
        let mut connection = Connection::new(&shared, &filters, &events);
        let ended = tokio::select! {
            biased;
            () = events.closed() => return,
            ended = connection.run(packet_bytes_max) => ended,
        };
        let Ok(lost) = ended else { return };
        let lived = connection.lived();
        brief_in_a_row = match lived {
            Some(lived) if lived < BRIEF && lost.cause == Cause::Closed => brief_in_a_row + 1,
            _ => 0,
        };
        let (wait, limit) = match lost.cause {
            // At once: it comes again, and is read this time. A larger one later raises the limit again.
            Cause::TooLarge { packet_bytes } if packet_bytes <= READ_BYTES_MAX => (Duration::ZERO, packet_bytes),
            _ => (backoff.after(lived.unwrap_or_default(), &*shared.entropy), PACKET_BYTES_MAX),
        };
        packet_bytes_max = limit.max(PACKET_BYTES_MAX);
        let suspected = brief_in_a_row >= BRIEF_IN_A_ROW;
        let reason = if suspected {
            format!(
                "{} soon after it opened, {brief_in_a_row} times in a row; another client may use our client id",
                lost.reason
            )
        } else {
            lost.reason
        };
        let taken_over = suspected || lost.cause == Cause::TakenOver;
        if events.send(SourceEvent::Disconnected { reason, taken_over }).await.is_err() {
            return;
        }
        tokio::select! {
            () = events.closed() => return,
            () = sleep(wait) => {}
        }
    }
}

/// One connection.
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    filters: &'a [String],
    events: &'a mpsc::Sender<SourceEvent>,
    greeted: Option<Instant>,
}

/// What is known once the broker greeted.
struct Greeted {
    number: u64,
    record: SessionRecord,
    session_present: bool,
    session_expected: bool,
    announced: bool,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Arc<Shared>, filters: &'a [String], events: &'a mpsc::Sender<SourceEvent>) -> Self {
        Self { shared, filters, events, greeted: None }
    }

    /// How long ago the broker greeted, if it did.
    fn lived(&self) -> Option<Duration> {
        self.greeted.map(|greeted| greeted.elapsed())
    }

    /// The whole life of the connection; says how it ended.
    async fn run(&mut self, packet_bytes_max: usize) -> Result<Lost, Unheard> {
        let mut wire = match open(self.shared, packet_bytes_max).await {
            Ok(wire) => wire,
            Err(reason) => return Ok(Lost::other(reason)),
        };
        let (session_present, receive_maximum) = match wire.next().await {
            Ok(Incoming::Greeted { session_present, session_expiry_s, receive_maximum }) => {
                self.note_expiry(session_expiry_s);
                (session_present, receive_maximum)
            }
            Ok(_) => return Ok(Lost::not_greeted()),
            Err(lost) => return Ok(lost),
        };
        self.greeted = Some(Instant::now());
        let line = self.shared.go_live(wire.client(), receive_maximum);
        let lost = self.work(&mut wire, &line, session_present).await?;
        drop(line);
        for publication in wire.left_over() {
            self.send(SourceEvent::Publication { publication, token: None }).await?;
        }
        Ok(lost)
    }

    async fn work(&self, wire: &mut Wire, line: &Line, session_present: bool) -> Result<Lost, Unheard> {
        let (record, session_expected) = self.session(session_present).await;
        let number = line.connection;
        let mut greeted = Greeted { number, record, session_present, session_expected, announced: false };
        let stale = greeted.record.filters.iter().filter(|filter| !self.filters.contains(filter));
        // At every connection: the broker may have gone back to an older save of the session, with other filters.
        if !stale.into_iter().all(|filter| wire.unsubscribe(filter)) || !wire.subscribe(self.filters) {
            return Ok(Lost::other("the topic filters of the routes can't be subscribed to; run `tidegate check`"));
        }
        let mut answer_until = Some(Instant::now() + SUBSCRIBE_MAX);
        loop {
            let incoming = match answer_until {
                None => wire.next().await,
                Some(until) => match tokio::time::timeout_at(until, wire.next()).await {
                    Ok(incoming) => incoming,
                    Err(_) => return Ok(Lost::silent(SUBSCRIBE_MAX)),
                },
            };
            match incoming {
                Ok(Incoming::Publication { publication, delivery }) => {
                    self.announce(&mut greeted).await?;
                    self.hand_on(&greeted, publication, delivery).await?;
                    // The answer may be behind many of these, and handing one on may take its time.
                    answer_until = answer_until.map(|_| Instant::now() + SUBSCRIBE_MAX);
                }
                Ok(Incoming::Subscribed { refused, without_acks }) => {
                    if let Some(lost) = self.refusal(&refused) {
                        return Ok(lost);
                    }
                    if without_acks {
                        tracing::warn!("the broker grants QoS 0 only: what it sends is in custody from our flush on");
                    }
                    answer_until = None;
                    self.say_online(line);
                    if greeted.record.filters != self.filters {
                        greeted.record.filters = self.filters.to_vec();
                        save(self.shared, &greeted.record).await;
                    }
                    self.announce(&mut greeted).await?;
                }
                Ok(Incoming::Acknowledged) => drop(line.acks_waiting.fetch_sub(1, Relaxed)),
                Ok(Incoming::Sent { packet_id }) => line.outgoing.sent(packet_id),
                Ok(Incoming::Answered { packet_id, refused }) => line.outgoing.answered(packet_id, refused),
                Ok(Incoming::Greeted { .. } | Incoming::Other) => {}
                Err(lost) => return Ok(lost),
            }
        }
    }

    /// The opposite of the last will, once we can take publications.
    fn say_online(&self, line: &Line) {
        if let Some(Presence { topic, online, .. }) = self.shared.config.tidings.presence() {
            let payload = Bytes::from_static(online.as_bytes());
            let online = Announcement { topic, payload, retained: true, correlation: None };
            // It is handed over now, before anything else is; whether the broker takes it is the broker's matter.
            drop(Arc::clone(&line.outgoing).announce(online));
        }
    }

    /// The record of the session that we are in, and whether it should have been there. A new one is on disk before anything
    /// can be delivered in it.
    async fn session(&self, session_present: bool) -> (SessionRecord, bool) {
        let (folder, place) = (self.shared.state_dir.clone(), self.shared.place());
        let known = blocking(move || Ok(SessionRecord::load(&folder, &place))).await.ok().flatten();
        let expected = known.is_some();
        match known {
            Some(record) if session_present => (record, expected),
            _ => {
                let record = SessionRecord::begin(self.shared.place(), self.shared.entropy.number());
                save(self.shared, &record).await;
                (record, expected)
            }
        }
    }

    async fn announce(&self, greeted: &mut Greeted) -> Result<(), Unheard> {
        if greeted.announced {
            return Ok(());
        }
        greeted.announced = true;
        self.send(SourceEvent::Connected {
            connection: greeted.number,
            session_present: greeted.session_present,
            session_expected: greeted.session_expected,
        })
        .await
    }

    async fn hand_on(
        &self,
        greeted: &Greeted,
        publication: Publication,
        delivery: Option<Delivery>,
    ) -> Result<(), Unheard> {
        let redelivery = delivery.map(|Delivery { packet_id, dup }| Redelivery::Mqtt {
            session: greeted.record.session,
            packet_id,
            dup,
        });
        crash_point::reach(CrashPoint::PublicationReceived);
        let token = delivery.map(|Delivery { packet_id, .. }| AckToken { connection: greeted.number, packet_id });
        self.send(SourceEvent::Publication { publication: Publication { redelivery, ..publication }, token }).await
    }

    async fn send(&self, event: SourceEvent) -> Result<(), Unheard> {
        self.events.send(event).await.map_err(|_| Unheard)
    }

    fn refusal(&self, refused: &[usize]) -> Option<Lost> {
        let first = self.filters.get(*refused.first()?).map_or("", String::as_str);
        let (refused, all) = (refused.len(), self.filters.len());
        Some(Lost::other(format!(
            "the broker refuses {refused} of {all} topic filters, the first is {first:?}; see its access rules for our user"
        )))
    }

    fn note_expiry(&self, granted_s: Option<u32>) {
        let wanted_s = self.shared.config.session_expiry_s;
        if let Some(granted_s) = granted_s.filter(|granted_s| *granted_s < wanted_s) {
            tracing::warn!(granted_s, wanted_s, "the broker keeps our session for less than mqtt.session_expiry");
        }
    }
}

async fn open(shared: &Shared, packet_bytes_max: usize) -> Result<Wire, String> {
    let config = &shared.config;
    let ca = match &config.tls_ca_file {
        Some(file) => Some(read(file).await?),
        None => None,
    };
    // No name server is asked (PR-5): the config has the address. TLS verifies the name, so there rumqttc must have it; the
    // hosts file, where the config found it, answers its look-up.
    let host = match config.connect().ip() {
        _ if ca.is_some() => config.host.clone(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let opening = Opening {
        client_id: shared.client_id.clone(),
        host,
        port: config.port,
        login: login(shared).await?,
        ca,
        session_expiry_s: config.session_expiry_s,
        receive_maximum: config.receive_maximum,
        packet_bytes_max,
        presence: config.tidings.presence(),
    };
    Ok(match config.protocol {
        MqttProtocol::V5 => Wire::V5(Box::new(v5::Wire::open(opening))),
        MqttProtocol::V311 => Wire::V311(Box::new(v311::Wire::open(opening))),
    })
}

/// Read anew for each connection, so that a changed password needs no restart.
async fn login(shared: &Shared) -> Result<Option<super::Login>, String> {
    if let Some(login) = &shared.own_login {
        return Ok(Some(login.clone()));
    }
    let Some(name) = shared.config.username.clone() else { return Ok(None) };
    let password = match &shared.config.password_file {
        Some(file) => String::from_utf8(read(file).await?)
            .map_err(|_| format!("{} is not UTF-8", file.display()))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        None => String::new(),
    };
    Ok(Some(super::Login { name, password }))
}

async fn read(file: &Path) -> Result<Vec<u8>, String> {
    let content = async {
        if tokio::fs::metadata(file).await?.len() > SECRET_BYTES_MAX {
            return Err(io::Error::other(format!("it is larger than {SECRET_BYTES_MAX} bytes")));
        }
        tokio::fs::read(file).await
    };
    content.await.map_err(|error| format!("could not read {}: {error}", file.display()))
}

async fn save(shared: &Shared, record: &SessionRecord) {
    let (folder, record) = (shared.state_dir.clone(), record.clone());
    if let Err(error) = blocking(move || record.save(&folder)).await {
        // Nothing is lost by it: after a restart, what the broker sends again may be taken for new.
        tracing::warn!(%error, "could not write the number of the broker's session to the state folder");
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
