//! A publisher over MQTT 5, for the simulated device: it connects, publishes, and counts what the broker acknowledged.
//!
//! It is a device, not a part of the gateway: it subscribes to nothing. After a lost connection it connects again for as long as
//! [`RECONNECT_LIMIT_S`], and what was under way is sent again, marked as such, if the broker still knows the session. If it does
//! not, that is lost, and the counts say so.
//!
//! Limits: [`UNDER_WAY_MAX`] publications without an acknowledgement; above, [`Publisher::publish`] waits.

use rumqttc::v5::{
    AsyncClient, Event, EventLoop, MqttOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, PubAckReason},
    },
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Most publications under way, and waiting to be sent.
pub const UNDER_WAY_MAX: u16 = 100;
/// How long a broker may be away, in seconds.
pub const RECONNECT_LIMIT_S: u64 = 30;
/// How long the last acknowledgements may take, in seconds.
const FINISH_LIMIT_S: u64 = 30;
/// Between two tries to connect, in milliseconds.
const RETRY_MS: u64 = 500;
/// How long the broker keeps the session after the connection, in seconds.
const SESSION_EXPIRY_S: u32 = 300;
/// Keep-alive, in seconds.
const KEEP_ALIVE_S: u64 = 30;

/// Where and how to publish.
#[derive(Clone)]
pub struct PublisherSettings {
    /// The broker.
    pub broker: SocketAddr,
    /// Client id.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Whether the broker has to acknowledge (QoS 1), or not (QoS 0).
    pub acknowledged: bool,
}

/// Why publishing failed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker can't be reached, or stayed away.
    #[error("the broker at {broker} can't be reached: {reason}")]
    Broker {
        /// Where.
        broker: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A topic that is none.
    #[error("this is not a topic to publish to")]
    Topic,
}

/// What came of publishing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Handed to the connection.
    pub sent: u64,
    /// Acknowledged by the broker (QoS 1).
    pub acknowledged: u64,
    /// Acknowledged with a refusal.
    pub refused: u64,
    /// Connections after the first.
    pub reconnects: u64,
    connected: bool,
    failure: Option<String>,
}

/// A connected publisher.
#[derive(Debug)]
pub struct Publisher {
    client: AsyncClient,
    progress: watch::Receiver<Published>,
    poller: JoinHandle<()>,
    qos: QoS,
    broker: SocketAddr,
    published: u64,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

impl Publisher {
    /// Connects.
    ///
    /// # Errors
    /// When the broker can't be reached, or refuses.
    pub async fn connect(settings: &PublisherSettings) -> Result<Self, PublishError> {
        let broker = settings.broker;
        let mut options = MqttOptions::new(&settings.client_id, broker.ip().to_string(), broker.port());
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(SESSION_EXPIRY_S));
        options.set_keep_alive(Duration::from_secs(KEEP_ALIVE_S));
        options.set_outgoing_inflight_upper_limit(UNDER_WAY_MAX);
        if let Some((name, password)) = &settings.credentials {
            options.set_credentials(name, password);
        }
        let (client, mut connection) = AsyncClient::new(options, usize::from(UNDER_WAY_MAX));
        let first = connection.poll().await;
        first.map_err(|error| PublishError::Broker { broker, reason: error.to_string() })?;
        let (report, progress) = watch::channel(Published { connected: true, ..Published::default() });
        let poller = tokio::spawn(poll(connection, report));
        let qos = if settings.acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        Ok(Self { client, progress, poller, qos, broker, published: 0 })
    }

    /// Publishes; waits while too much is under way.
    ///
    /// # Errors
    /// When the broker stayed away for too long, or the topic is none.
    pub async fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), PublishError> {
        let mut progress = self.progress.clone();
        let gone = async move { progress.wait_for(|progress| progress.failure.is_some()).await.is_ok() };
        tokio::select! {
            sent = self.client.publish(topic, self.qos, false, payload) => match sent {
                Ok(()) => {
                    self.published += 1;
                    Ok(())
                }
                Err(_) if self.failure().is_some() => Err(self.broken()),
                Err(_) => Err(PublishError::Topic),
            },
            _ = gone => Err(self.broken()),
        }
    }

    /// Waits for what is under way, and disconnects.
    ///
    /// # Errors
    /// When the broker stayed away for too long.
    pub async fn finish(mut self) -> Result<Published, PublishError> {
        let (published, acknowledged) = (self.published, self.qos == QoS::AtLeastOnce);
        let done = self.progress.wait_for(|progress| {
            let answered = progress.acknowledged + progress.refused;
            progress.failure.is_some() || if acknowledged { answered >= published } else { progress.sent >= published }
        });
        // What is not acknowledged by then shows in the counts.
        let _ = timeout(Duration::from_secs(FINISH_LIMIT_S), done).await;
        if self.failure().is_some() {
            return Err(self.broken());
        }
        let _ = self.client.disconnect().await;
        // The connection ends once the packet is out.
        let ended = self.progress.wait_for(|progress| !progress.connected);
        let _ = timeout(Duration::from_secs(1), ended).await;
        Ok(self.progress.borrow().clone())
    }

    fn failure(&self) -> Option<String> {
        self.progress.borrow().failure.clone()
    }

    fn broken(&self) -> PublishError {
        PublishError::Broker {
            broker: self.broker,
            reason: self.failure().unwrap_or_else(|| "it went away".to_owned()),
        }
    }
}

/// Drives the connection until it is ended on purpose, or the broker stays away.
async fn poll(mut connection: EventLoop, report: watch::Sender<Published>) {
    let mut lost: Option<Instant> = None;
    let mut ending = false;
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                lost = None;
                report.send_modify(|progress| {
                    progress.reconnects += 1;
                    progress.connected = true;
                });
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => report.send_modify(|progress| match ack.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => progress.acknowledged += 1,
                _ => progress.refused += 1,
            }),
            Ok(Event::Outgoing(rumqttc::Outgoing::Publish(_))) => report.send_modify(|progress| progress.sent += 1),
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => ending = true,
            Ok(_) => {}
            Err(_) if ending => {
                report.send_modify(|progress| progress.connected = false);
                return;
            }
            Err(error) => {
                let since = *lost.get_or_insert_with(Instant::now);
                report.send_modify(|progress| progress.connected = false);
                if since.elapsed() > Duration::from_secs(RECONNECT_LIMIT_S) {
                    report.send_modify(|progress| progress.failure = Some(error.to_string()));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
            }
        }
    }
}
