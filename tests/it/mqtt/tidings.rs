//! What the gateway tells devices, on a real mosquitto: its last will, retained states, receipts with correlation data, and that its
//! own words don't come back as readings. The devices are Debian's clients, which share no code with ours.

use super::bench::{Gateway, LIMIT, VERSIONS, config, mosquitto, publish, publish_with, text};
use bytes::Bytes;
use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};
use tidegate::lab::process::find_program;
use tidegate_actors::ports::source::{AnnounceError, Announcement, Source as _};
use tidegate_schemas::{
    config::file::{MqttConfig, MqttProtocol},
    submission::ReplyTo,
    tidings::{CORRELATION_BYTES_MAX, Tidings},
};

fn announcement(topic: &str, payload: &str) -> Announcement {
    let payload = Bytes::from(payload.to_owned());
    Announcement { topic: topic.to_owned(), payload, retained: false, correlation: None }
}

/// The first that a subscriber hears there, or nothing after this time.
fn heard(broker: SocketAddr, topic: &str, format: &str, wait: Duration) -> Option<String> {
    let port = broker.port().to_string();
    let wait = wait.as_secs().max(1).to_string();
    let done = Command::new(find_program("mosquitto_sub").expect("mosquitto-clients is installed"))
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "mqttv5",
            "-q",
            "1",
            "-C",
            "1",
            "-W",
            &wait,
            "-t",
            topic,
            "-F",
            format,
        ])
        .output()
        .unwrap();
    let heard = String::from_utf8(done.stdout).unwrap().trim_end().to_owned();
    (!heard.is_empty()).then_some(heard)
}

/// Waits until a new subscriber is told this there.
fn until_retained(broker: SocketAddr, topic: &str, wanted: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let told = heard(broker, topic, "%p", Duration::from_secs(1));
        if told.as_deref() == Some(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{topic}: {told:?}, not {wanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_online_while_it_is_connected_and_its_last_will_says_that_it_is_gone() {
    for (protocol, _) in VERSIONS {
        let mut broker = mosquitto(&[]);
        let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
        let config = |address, protocol| MqttConfig { tidings: Tidings::default(), ..config(address, protocol) };
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
        gateway.connected().await;
        until_retained(address, "tidegate/state", r#"{"state":"online"}"#);
        // As kill -9 does: the connection is cut without a word.
        gateway.kill().await;
        until_retained(address, "tidegate/state", r#"{"state":"offline"}"#);
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
        gateway.connected().await;
        until_retained(address, "tidegate/state", r#"{"state":"online"}"#);
        broker.restart().unwrap();
        gateway.connected().await;
        until_retained(address, "tidegate/state", r#"{"state":"online"}"#);
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_answered_and_retained_and_a_route_that_takes_everything_does_not_bring_it_back() {
    for (protocol, _) in VERSIONS {
        let broker = mosquitto(&[("max_inflight_messages", "4")]);
        let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["#"]);
        let (connection, ..) = gateway.connected().await;
        assert_eq!(gateway.source.connection(), Some(connection));
        let topic = "tidegate/destinations/ward/state";
        // More at once than the broker takes: those behind wait for their turn.
        let all = (0..200).map(|n| {
            let retained = Announcement { retained: true, ..announcement(topic, &n.to_string()) };
            gateway.source.announce(retained)
        });
        let answers = tokio::time::timeout(LIMIT, futures_util::future::join_all(all)).await.unwrap();
        assert!(answers.iter().all(Result::is_ok), "{protocol:?}: {answers:?}");
        assert_eq!(heard(address, topic, "%p", Duration::from_secs(5)).as_deref(), Some("199"), "in their order");
        publish(address, "ward/bpm", b"after");
        let others = gateway.take_until(b"after").await;
        if protocol == MqttProtocol::V5 {
            assert!(others.is_empty(), "{others:?}");
        }
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_leave_though_a_broker_answers_no_publication() {
    // A broker that is frozen answers nothing: what waits for it must not be in front of what is acknowledged after it goes on.
    let broker = mosquitto(&[]);
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    let many: Vec<_> = (0..1_000).map(|n| gateway.source.announce(announcement("x", &n.to_string()))).collect();
    let waiting = tokio::spawn(futures_util::future::join_all(many));
    publish(address, "ward/bpm", b"1");
    let (publication, token) = gateway.publication().await;
    assert_eq!(text(&publication), "1");
    assert!(gateway.source.ack(token.unwrap()));
    let answers = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap();
    assert!(answers.iter().all(Result::is_ok));
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_announced_without_a_connection_and_what_was_under_way_is_lost_with_it() {
    let mut broker = mosquitto(&[]);
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    broker.kill().unwrap();
    let answer = gateway.source.announce(announcement("x", "1")).await;
    assert!(matches!(answer, Err(AnnounceError::Lost | AnnounceError::NotConnected)), "{answer:?}");
    gateway.disconnected().await;
    assert_eq!(gateway.source.connection(), None);
    assert_eq!(gateway.source.announce(announcement("x", "1")).await, Err(AnnounceError::NotConnected));
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lets_us_not_publish_says_so_over_mqtt_5() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), "topic read #\ntopic write allowed/#\n").unwrap();
    let broker = mosquitto(&[("acl_file", rules.path().to_str().unwrap())]);
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(config(broker.address(), MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    let refused = gateway.source.announce(announcement("forbidden/x", "1")).await;
    assert!(matches!(refused, Err(AnnounceError::Refused(_))), "{refused:?}");
    assert_eq!(gateway.source.announce(announcement("allowed/x", "1")).await, Ok(()));
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_topic_and_correlation_data_come_in_and_go_out_over_mqtt_5() {
    let broker = mosquitto(&[]);
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    let asking = |correlation: &str| {
        let args = [
            "-V",
            "mqttv5",
            "-q",
            "1",
            "-D",
            "publish",
            "response-topic",
            "answers/esp32",
            "-D",
            "publish",
            "correlation-data",
            correlation,
        ];
        assert_eq!(publish_with(address, "ward/bpm", b"70", &args), Some(0));
    };
    asking("c-7");
    let (publication, token) = gateway.publication().await;
    let reply_to = publication.reply_to.unwrap();
    assert_eq!(reply_to, ReplyTo { topic: "answers/esp32".into(), correlation: Some("c-7".into()) });
    gateway.source.ack(token.unwrap());
    let ears = std::thread::spawn(move || heard(address, "answers/esp32", "%D %C %p", LIMIT));
    // Until the subscription is there; a receipt is not retained.
    let deadline = Instant::now() + LIMIT;
    while !ears.is_finished() && Instant::now() < deadline {
        let echoed = Announcement { correlation: reply_to.correlation.clone(), ..announcement("answers/esp32", "{}") };
        assert_eq!(gateway.source.announce(echoed).await, Ok(()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ears.join().unwrap().as_deref(), Some("c-7 application/json {}"));
    asking(&"x".repeat(4 * CORRELATION_BYTES_MAX));
    let (publication, token) = gateway.publication().await;
    let kept = publication.reply_to.unwrap().correlation.unwrap().len();
    assert_eq!(kept, CORRELATION_BYTES_MAX + 1, "cut, and known as too long");
    gateway.source.ack(token.unwrap());
    gateway.kill().await;
}
