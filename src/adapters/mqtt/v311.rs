//! MQTT 3.1.1, by rumqttc.

use super::{
    ACKS_MAX, CONNECT_MAX, KEEP_ALIVE,
    wire::{Delivery, Incoming, Lost, Opening, body, transport},
};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Error as ParseError, Event, EventLoop, LastWill, MqttOptions,
    NetworkOptions, Outgoing, Packet, Publish, QoS, StateError, SubscribeFilter, SubscribeReasonCode,
};
use tidegate_actors::ports::source::Announcement;
use tidegate_schemas::{
    submission::{Origin, PACKET_BYTES_MAX, Publication},
    tidings::Presence,
};

/// One connection.
pub(super) struct Wire {
    client: AsyncClient,
    events: EventLoop,
}

/// See [`super::wire::Client::ack`].
pub(super) fn ack(client: &AsyncClient, packet_id: u16) -> bool {
    // rumqttc makes the acknowledgement from QoS and packet id alone.
    let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
    publish.pkid = packet_id;
    client.try_ack(&publish).is_ok()
}

/// See [`super::wire::Client::publish`].
pub(super) fn publish(client: &AsyncClient, announcement: &Announcement) -> bool {
    let Announcement { topic, payload, retained, .. } = announcement.clone();
    client.try_publish(topic, QoS::AtLeastOnce, retained, payload).is_ok()
}

impl Wire {
    pub fn open(opening: Opening) -> Self {
        let mut options = MqttOptions::new(opening.client_id, opening.host, opening.port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_manual_acks(true)
            .set_clean_session(false)
            .set_max_packet_size(opening.packet_bytes_max, PACKET_BYTES_MAX)
            .set_transport(transport(opening.ca));
        if let Some(login) = opening.login {
            options.set_credentials(login.name, login.password);
        }
        if let Some(Presence { topic, offline, .. }) = opening.presence {
            options.set_last_will(LastWill::new(topic, offline, QoS::AtLeastOnce, true));
        }
        let (client, mut events) = AsyncClient::new(options, ACKS_MAX);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_MAX.as_secs());
        events.set_network_options(network);
        Self { client, events }
    }

    pub fn client(&self) -> AsyncClient {
        self.client.clone()
    }

    pub async fn next(&mut self) -> Result<Incoming, Lost> {
        let event = self.events.poll().await.map_err(|error| lost(&error))?;
        Ok(match event {
            Event::Incoming(Packet::ConnAck(greeting)) => Incoming::Greeted {
                session_present: greeting.session_present,
                session_expiry_s: None,
                receive_maximum: u16::MAX,
            },
            Event::Outgoing(Outgoing::Publish(packet_id)) => Incoming::Sent { packet_id },
            Event::Outgoing(Outgoing::PubAck(_)) => Incoming::Acknowledged,
            // 3.1.1 has no word for a refusal: a broker that refuses closes the connection, or takes it and forgets it.
            Event::Incoming(Packet::PubAck(answer)) => Incoming::Answered { packet_id: answer.pkid, refused: None },
            Event::Incoming(Packet::SubAck(answer)) => Incoming::Subscribed {
                refused: answer
                    .return_codes
                    .iter()
                    .enumerate()
                    .filter(|(_, code)| **code == SubscribeReasonCode::Failure)
                    .map(|(place, _)| place)
                    .collect(),
                without_acks: answer.return_codes.contains(&SubscribeReasonCode::Success(QoS::AtMostOnce)),
            },
            Event::Incoming(Packet::Publish(publish)) => match publish.qos {
                QoS::ExactlyOnce => return Err(Lost::above_our_qos()),
                QoS::AtMostOnce => Incoming::Publication { publication: publication(publish), delivery: None },
                QoS::AtLeastOnce => {
                    let delivery = Delivery { packet_id: publish.pkid, dup: publish.dup };
                    Incoming::Publication { publication: publication(publish), delivery: Some(delivery) }
                }
            },
            Event::Incoming(_) | Event::Outgoing(_) => Incoming::Other,
        })
    }

    pub fn left_over(&mut self) -> Vec<Publication> {
        self.events
            .state
            .events
            .drain(..)
            .filter_map(|event| match event {
                Event::Incoming(Packet::Publish(publish)) if publish.qos == QoS::AtMostOnce => {
                    Some(publication(publish))
                }
                _ => None,
            })
            .collect()
    }

    pub fn subscribe(&self, filters: &[String]) -> bool {
        let filters = filters.iter().map(|path| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).is_ok()
    }

    pub fn unsubscribe(&self, filter: &str) -> bool {
        self.client.try_unsubscribe(filter).is_ok()
    }
}

fn publication(publish: Publish) -> Publication {
    Publication {
        payload: body(&publish.payload),
        topic: publish.topic,
        content_type: None,
        user_properties: Vec::new(),
        expiry_s: None,
        reply_to: None,
        retained: publish.retain,
        origin: if publish.qos == QoS::AtMostOnce { Origin::MqttQos0 } else { Origin::MqttQos1 },
        redelivery: None,
    }
}

/// Never prints a packet: it may hold a payload.
fn lost(error: &ConnectionError) -> Lost {
    match error {
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Lost::silent(CONNECT_MAX),
        ConnectionError::Io(error) => Lost::io(error),
        ConnectionError::ConnectionRefused(code) => Lost::other(refusal(*code)),
        ConnectionError::NotConnAck(_) => Lost::not_greeted(),
        ConnectionError::RequestsDone => Lost::other("the connection was given up"),
        ConnectionError::MqttState(error) => lost_state(error),
        #[cfg(feature = "mqtt-tls")]
        ConnectionError::Tls(error) => Lost::other(format!("TLS with the broker failed: {error}")),
    }
}

fn lost_state(error: &StateError) -> Lost {
    match error {
        StateError::ConnectionAborted => Lost::closed(),
        StateError::Io(error) | StateError::Deserialization(ParseError::Io(error)) => Lost::io(error),
        StateError::Deserialization(ParseError::PayloadSizeLimitExceeded(bytes)) => Lost::too_large(*bytes),
        StateError::AwaitPingResp => Lost::silent(KEEP_ALIVE),
        // The rest is of fixed words and numbers.
        other => Lost::other(format!("the broker's packets can't be understood: {other}")),
    }
}

fn refusal(code: ConnectReturnCode) -> String {
    match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            "the broker refuses our user name or password; see mqtt.username and mqtt.password_file".to_owned()
        }
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1".to_owned(),
        other => format!("the broker refuses the connection ({other:?})"),
    }
}
