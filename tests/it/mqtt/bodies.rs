//! Bodies of every size, MQTT 5's properties, and what no body may do: stop the next one.

use super::bench::{
    GREETED_V5, Gateway, SUBSCRIBED_V5, VERSIONS, config, mosquitto, publish, publish_with, scripted_broker, text,
};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use tidegate_actors::ports::source::{Source as _, SourceEvent};
use tidegate_schemas::{
    config::file::MqttProtocol,
    submission::{PACKET_BYTES_MAX, Publication},
};

const NEXT_MAX: Duration = Duration::from_secs(1);

/// Publishes this body and then a small one; returns what came before the small one, how long that took to come, and how often
/// the connection ended meanwhile.
async fn next_after(
    gateway: &mut Gateway,
    broker: SocketAddr,
    version: &str,
    body: &[u8],
) -> (Vec<Publication>, Duration, u32) {
    assert_eq!(publish_with(broker, "ward/odd", body, &["-q", "1", "-V", version]), Some(0));
    publish(broker, "ward/bpm", b"next");
    let (published, mut before, mut ends) = (Instant::now(), Vec::new(), 0);
    loop {
        match gateway.event().await {
            SourceEvent::Publication { publication, token } => {
                assert!(gateway.source.ack(token.unwrap()));
                if publication.topic == "ward/bpm" {
                    return (before, published.elapsed(), ends);
                }
                before.push(publication);
            }
            SourceEvent::Disconnected { taken_over, .. } => {
                assert!(!taken_over);
                ends += 1;
            }
            SourceEvent::Connected { .. } => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_reading_flows_within_a_second_whatever_came_before() {
    let invalid = [0xff, 0xfe, 0x00, 0xc3, 0x28];
    for (protocol, version) in VERSIONS {
        // Without a limit of the broker's own.
        let broker = mosquitto(&[("message_size_limit", "0")]);
        let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
        gateway.connected().await;
        for body in [vec![], vec![b'x'; 12_000], vec![b'x'; 300_000], invalid.to_vec()] {
            let (before, took, ends) = next_after(&mut gateway, address, version, &body).await;
            assert_eq!(before.len(), 1, "{protocol:?}, {} bytes", body.len());
            assert_eq!(before[0].payload.reveal()[..], body[..]);
            assert!(took < NEXT_MAX && ends == 0, "{protocol:?}, {} bytes: {took:?}, {ends} ends", body.len());
        }
        // The larger one raises the limit of this connection once more; for the last it is high enough.
        for (bytes, reads) in [(2_097_152, 1), (5_242_880, 1), (5_000_000, 0)] {
            let (before, took, ends) = next_after(&mut gateway, address, version, &vec![b'x'; bytes]).await;
            assert!(took < NEXT_MAX, "{protocol:?}, {bytes} bytes: {took:?}");
            match protocol {
                // The broker knows our limit and drops it.
                MqttProtocol::V5 => assert_eq!((before.len(), ends), (0, 0)),
                // It is read on a second connection, cut, and goes to quarantine for its size.
                MqttProtocol::V311 => {
                    assert_eq!((before.len(), ends), (1, reads), "{bytes} bytes");
                    assert_eq!(before[0].payload.len(), PACKET_BYTES_MAX);
                }
            }
        }
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_utf_8_stops_nobody() {
    let broker = mosquitto(&[]);
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start(config(address, MqttProtocol::V311), folder.path(), &["#"]);
    gateway.connected().await;
    let mut device = TcpStream::connect(address).unwrap();
    device.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // CONNECT of MQTT 3.1.1 with the client id "odd", then PUBLISH at QoS 1 to the topic 0xff 0xfe.
    device.write_all(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03odd").unwrap();
    let mut greeting = [0; 4];
    device.read_exact(&mut greeting).unwrap();
    device.write_all(b"\x32\x07\x00\x02\xff\xfe\x00\x01x").unwrap();
    assert_eq!(device.read(&mut greeting).unwrap_or(0), 0, "mosquitto closes on it, unanswered");
    publish(address, "ward/bpm", b"next");
    let (publication, _) = gateway.publication().await;
    assert_eq!(text(&publication), "next");
    gateway.kill().await;
}

/// CONNACK and SUBACK of MQTT 3.1.1.
const GREETED_V311: &[u8] = b"\x20\x02\x00\x00";
const SUBSCRIBED_V311: &[u8] = b"\x90\x03\x00\x01\x01";

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_sends_a_topic_that_is_not_utf_8_is_read_in_mqtt_5_and_named_in_3_1_1() {
    let folder = tempfile::tempdir().unwrap();
    let odd = b"\x32\x08\x00\x02\xff\xfe\x00\x01\x00x";
    let (broker, _thread) = scripted_broker(vec![GREETED_V5.into(), SUBSCRIBED_V5.into(), odd.into()]);
    let mut gateway = Gateway::start(config(broker, MqttProtocol::V5), folder.path(), &["ward/+"]);
    let (publication, token) = gateway.publication().await;
    assert!(publication.topic.contains('\u{fffd}') && text(&publication) == "x");
    assert!(gateway.source.ack(token.unwrap()));
    gateway.kill().await;

    let folder = tempfile::tempdir().unwrap();
    let odd = b"\x32\x07\x00\x02\xff\xfe\x00\x01x";
    let (broker, _thread) = scripted_broker(vec![GREETED_V311.into(), SUBSCRIBED_V311.into(), odd.into()]);
    let mut gateway = Gateway::start(config(broker, MqttProtocol::V311), folder.path(), &["ward/+"]);
    let begun = Instant::now();
    let mut ends = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        if let Some(SourceEvent::Disconnected { reason, taken_over }) =
            gateway.event_within(Duration::from_secs(1)).await
        {
            assert!(reason.contains("not UTF-8") && !taken_over, "{reason}");
            ends += 1;
        }
    }
    assert!((2..=6).contains(&ends), "it backs off: {ends} ends in 3 s");
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_is_too_large_to_be_read_at_all_is_named_and_not_read_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    // The head of a PUBLISH of 20 MiB.
    let head = b"\x32\x80\x80\x80\x0a\x00\x08ward/odd";
    let (broker, _thread) = scripted_broker(vec![GREETED_V311.into(), SUBSCRIBED_V311.into(), head.into()]);
    let mut gateway = Gateway::start(config(broker, MqttProtocol::V311), folder.path(), &["ward/+"]);
    for _ in 0..2 {
        let (reason, taken_over) = gateway.disconnected().await;
        assert!(reason.contains("20971520 bytes") && reason.contains("nothing behind it arrives"), "{reason}");
        assert!(!taken_over);
    }
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_properties_of_mqtt_5_are_kept() {
    let broker = mosquitto(&[]);
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    let args = [
        "-q",
        "1",
        "-V",
        "mqttv5",
        "-D",
        "publish",
        "content-type",
        "application/json",
        "-D",
        "publish",
        "message-expiry-interval",
        "600",
        "-D",
        "publish",
        "user-property",
        "destination",
        "cardiology",
        "-D",
        "publish",
        "user-property",
        "device",
        "esp32",
    ];
    assert_eq!(publish_with(address, "ward/bpm", b"{}", &args), Some(0));
    let (publication, _) = gateway.publication().await;
    assert_eq!(publication.content_type.as_deref(), Some("application/json"));
    assert!(publication.expiry_s.is_some_and(|expiry_s| (590..=600).contains(&expiry_s)), "{:?}", publication.expiry_s);
    let properties = [("destination", "cardiology"), ("device", "esp32")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(publication.user_properties, properties);
    assert!(!publication.retained);
    gateway.kill().await;
}
