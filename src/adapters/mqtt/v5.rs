//! MQTT 5, by rumqttc.

use super::{
    ACKS_MAX, CONNECT_MAX, KEEP_ALIVE, USER_PROPERTIES_MAX,
    wire::{Delivery, Incoming, Lost, Opening, body, transport},
};
use bytes::Bytes;
use rumqttc::{
    NetworkOptions, Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, Incoming as Packet, MqttOptions, StateError,
        mqttbytes::{
            Error as ParseError, QoS,
            v5::{
                ConnectReturnCode, DisconnectReasonCode, Filter, LastWill, PubAck, PubAckReason, Publish,
                PublishProperties, RetainForwardRule, SubscribeReasonCode,
            },
        },
    },
};
use tidegate_actors::ports::source::Announcement;
use tidegate_schemas::{
    route::is_content_type,
    submission::{Origin, Publication, ReplyTo},
    tidings::{CORRELATION_BYTES_MAX, Presence},
};

/// One connection.
pub(super) struct Wire {
    client: AsyncClient,
    events: EventLoop,
}

/// See [`super::wire::Client::ack`].
pub(super) fn ack(client: &AsyncClient, packet_id: u16) -> bool {
    // rumqttc makes the acknowledgement from QoS and packet id alone.
    client
        .try_ack(&Publish { qos: QoS::AtLeastOnce, pkid: PubAck::new(packet_id, None).pkid, ..Publish::default() })
        .is_ok()
}

/// See [`super::wire::Client::publish`].
pub(super) fn publish(client: &AsyncClient, announcement: &Announcement) -> bool {
    let Announcement { topic, payload, retained, correlation } = announcement.clone();
    let content_type = Some("application/json".to_owned());
    let properties = PublishProperties { correlation_data: correlation, content_type, ..PublishProperties::default() };
    client.try_publish_with_properties(topic, QoS::AtLeastOnce, retained, payload, properties).is_ok()
}

impl Wire {
    pub fn open(opening: Opening) -> Self {
        let mut options = MqttOptions::new(opening.client_id, opening.host, opening.port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_connection_timeout(CONNECT_MAX.as_secs())
            .set_network_options(network)
            .set_manual_acks(true)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(opening.session_expiry_s))
            .set_receive_maximum(Some(opening.receive_maximum.max(1)))
            .set_max_packet_size(Some(u32::try_from(opening.packet_bytes_max).unwrap_or(u32::MAX)))
            .set_transport(transport(opening.ca));
        if let Some(login) = opening.login {
            options.set_credentials(login.name, login.password);
        }
        if let Some(Presence { topic, offline, .. }) = opening.presence {
            options.set_last_will(LastWill::new(topic, offline, QoS::AtLeastOnce, true, None));
        }
        let (client, events) = AsyncClient::new(options, ACKS_MAX);
        Self { client, events }
    }

    pub fn client(&self) -> AsyncClient {
        self.client.clone()
    }

    pub async fn next(&mut self) -> Result<Incoming, Lost> {
        let event = self.events.poll().await.map_err(|error| lost(&error))?;
        Ok(match event {
            Event::Incoming(Packet::ConnAck(greeting)) => {
                let said = greeting.properties;
                Incoming::Greeted {
                    session_present: greeting.session_present,
                    session_expiry_s: said.as_ref().and_then(|said| said.session_expiry_interval),
                    receive_maximum: said.and_then(|said| said.receive_max).unwrap_or(u16::MAX),
                }
            }
            Event::Outgoing(Outgoing::Publish(packet_id)) => Incoming::Sent { packet_id },
            Event::Outgoing(Outgoing::PubAck(_)) => Incoming::Acknowledged,
            Event::Incoming(Packet::PubAck(answer)) => {
                let taken = matches!(answer.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                let refused = (!taken).then(|| format!("{:?}", answer.reason));
                Incoming::Answered { packet_id: answer.pkid, refused }
            }
            Event::Incoming(Packet::SubAck(answer)) => Incoming::Subscribed {
                refused: places(&answer.return_codes, |code| !matches!(code, SubscribeReasonCode::Success(_))),
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
        let filters = filters.iter().map(|path| Filter {
            path: path.clone(),
            qos: QoS::AtLeastOnce,
            // A route that takes everything would bring us our own words.
            nolocal: true,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
        });
        self.client.try_subscribe_many(filters).is_ok()
    }

    pub fn unsubscribe(&self, filter: &str) -> bool {
        self.client.try_unsubscribe(filter).is_ok()
    }
}

fn places<T>(codes: &[T], refused: impl Fn(&T) -> bool) -> Vec<usize> {
    codes.iter().enumerate().filter(|(_, code)| refused(code)).map(|(place, _)| place).collect()
}

fn publication(publish: Publish) -> Publication {
    let properties = publish.properties.unwrap_or_default();
    let PublishProperties {
        message_expiry_interval,
        content_type,
        response_topic,
        correlation_data,
        mut user_properties,
        ..
    } = properties;
    // Copied, so that the read buffer is not held; one byte above the limit is enough to be known as too long.
    let correlation =
        correlation_data.map(|data| Bytes::copy_from_slice(&data[..data.len().min(CORRELATION_BYTES_MAX + 1)]));
    user_properties.truncate(USER_PROPERTIES_MAX);
    Publication {
        // A topic that is not UTF-8 (a broker must not send one) is made so, and finds its way to quarantine.
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: body(&publish.payload),
        content_type: content_type.filter(|text| is_content_type(text)),
        user_properties,
        expiry_s: message_expiry_interval,
        reply_to: response_topic.map(|topic| ReplyTo { topic, correlation }),
        retained: publish.retain,
        origin: if publish.qos == QoS::AtMostOnce { Origin::MqttQos0 } else { Origin::MqttQos1 },
        redelivery: None,
    }
}

/// Never prints a packet: it may hold a payload.
fn lost(error: &ConnectionError) -> Lost {
    match error {
        ConnectionError::Timeout(_) => Lost::silent(CONNECT_MAX),
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
        StateError::ServerDisconnect { reason_code: DisconnectReasonCode::SessionTakenOver, .. } => Lost {
            reason: "another client took over our client id; was this installation copied?".to_owned(),
            cause: super::wire::Cause::TakenOver,
        },
        StateError::ServerDisconnect { reason_code, .. } => {
            Lost::other(format!("the broker ended the connection ({reason_code:?})"))
        }
        StateError::ConnectionAborted => Lost::closed(),
        StateError::Io(error) | StateError::Deserialization(ParseError::Io(error)) => Lost::io(error),
        StateError::Deserialization(ParseError::PayloadSizeLimitExceeded { pkt_size, .. }) => {
            Lost::too_large(*pkt_size)
        }
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
        ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => {
            "the broker does not speak MQTT 5; set mqtt.protocol to 3.1.1".to_owned()
        }
        other => format!("the broker refuses the connection ({other:?})"),
    }
}
