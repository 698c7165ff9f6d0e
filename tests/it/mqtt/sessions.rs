//! The persistent session: what comes again, how it is marked, and who is told when it is lost or taken over.

use super::bench::{
    GREETED_V5, Gateway, SUBSCRIBED_V5, VERSIONS, config, mark, mosquitto, publish, publish_with, scripted_broker, text,
};
use std::time::Duration;
use tidegate_actors::ports::source::{AckToken, Source as _, SourceEvent};
use tidegate_schemas::{config::file::MqttProtocol, submission::Origin};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_comes_again_marked_and_what_came_while_we_were_away_follows() {
    for (protocol, _) in VERSIONS {
        let broker = mosquitto(&[]);
        let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
        assert_eq!(gateway.connected().await, (1, false, false));
        for body in ["0", "1", "2"] {
            publish(address, "ward/bpm", body.as_bytes());
        }
        let mut marks = Vec::new();
        for n in 0..3 {
            let (publication, token) = gateway.publication().await;
            assert_eq!((text(&publication), publication.origin), (n.to_string(), Origin::MqttQos1));
            let (_, packet_id, dup) = mark(&publication);
            assert_eq!(token, Some(AckToken { connection: 1, packet_id }));
            assert!(!dup);
            if n == 0 {
                assert!(gateway.source.ack(token.unwrap()));
            }
            marks.push(mark(&publication));
        }
        // The acknowledgement has left once the broker answers what came after it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        gateway.kill().await;
        publish(address, "ward/bpm", b"3");
        publish(address, "ward/bpm", b"4");

        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
        assert_eq!(gateway.connected().await, (1, true, true));
        for (n, before) in [(1, Some(marks[1])), (2, Some(marks[2])), (3, None), (4, None)] {
            let (publication, token) = gateway.publication().await;
            assert_eq!(text(&publication), n.to_string());
            let (session, packet_id, dup) = mark(&publication);
            assert_eq!(dup, before.is_some(), "{protocol:?} {n}");
            if let Some((old_session, old_packet_id, _)) = before {
                assert_eq!((session, packet_id), (old_session, old_packet_id));
            }
            assert!(gateway.source.ack(token.unwrap()));
        }
        publish(address, "ward/bpm", b"5");
        assert_eq!(gateway.take_until(b"5").await, [], "acknowledged ones don't come again");
        gateway.kill().await;
    }
}

/// How a mosquitto ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Restart,
    Kill,
}

/// mosquitto 2.0.11 with `autosave_on_changes` and `autosave_interval 1` saves when a publication is queued or removed, not when
/// one goes to a client at once. So for a kill the readings are published while the gateway is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_keeps_session_packet_ids_and_dup() {
    for (protocol, _) in VERSIONS {
        for end in [End::Restart, End::Kill] {
            let mut broker = mosquitto(&[]);
            let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
            let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
            gateway.connected().await;
            let publish_all = || (0..4).for_each(|n| publish(address, "ward/bpm", n.to_string().as_bytes()));
            let mut gateway = match end {
                End::Restart => {
                    publish_all();
                    gateway
                }
                End::Kill => {
                    gateway.kill().await;
                    publish_all();
                    tokio::time::sleep(Duration::from_millis(1_500)).await;
                    let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
                    gateway.connected().await;
                    gateway
                }
            };
            let mut marks = Vec::new();
            for n in 0..4 {
                let (publication, token) = gateway.publication().await;
                marks.push((n.to_string(), mark(&publication), token.unwrap()));
            }
            for (_, _, token) in marks.drain(..2) {
                assert!(gateway.source.ack(token));
            }
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            if end == End::Kill {
                broker.kill().unwrap();
            }
            broker.restart().unwrap();
            let (connection, session_present, session_expected) = gateway.connected().await;
            assert!(connection >= 2 && session_present && session_expected, "{protocol:?} {end:?}");
            for (body, (session, packet_id, dup), old_token) in marks {
                assert!(!dup);
                let (publication, token) = gateway.publication().await;
                assert_eq!(text(&publication), body);
                assert_eq!(mark(&publication), (session, packet_id, true), "{protocol:?} {end:?}");
                assert!(!gateway.source.ack(old_token), "the token of another connection");
                assert!(gateway.source.ack(token.unwrap()));
            }
            publish(address, "ward/bpm", b"after");
            assert_eq!(gateway.take_until(b"after").await, []);
            gateway.kill().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_is_missed_and_begins_anew() {
    let mut broker = mosquitto(&[("persistence", "false")]);
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    publish(address, "ward/bpm", b"0");
    let (before, _) = gateway.publication().await;
    broker.restart().unwrap();
    let (_, session_present, session_expected) = gateway.connected().await;
    assert!(!session_present && session_expected);
    publish(address, "ward/bpm", b"1");
    let (after, _) = gateway.publication().await;
    assert_eq!(text(&after), "1");
    assert_ne!(mark(&before).0, mark(&after).0, "another session, another number");
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_with_our_id_is_seen() {
    for (protocol, _) in VERSIONS {
        let broker = mosquitto(&[]);
        let folder = tempfile::tempdir().unwrap();
        let mut one = Gateway::start(config(broker.address(), protocol), folder.path(), &["ward/+"]);
        one.connected().await;
        // A copy of the installation: the state folder and all.
        let other = Gateway::start(config(broker.address(), protocol), folder.path(), &["ward/+"]);
        let mut reasons = Vec::new();
        loop {
            let (reason, taken_over) = one.disconnected().await;
            reasons.push(reason);
            assert!(reasons.len() < 12, "{protocol:?}: {reasons:?}");
            if taken_over {
                break;
            }
        }
        // mosquitto 2.0.11 doesn't say it in MQTT 5 either: the third brief connection raises the suspicion.
        assert!(reasons.len() == 3 && reasons[2].contains("another client may use our client id"), "{reasons:?}");
        other.kill().await;
        one.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_names_the_takeover_is_understood_at_once() {
    // What MQTT 5 has for it: DISCONNECT with reason 0x8e.
    let (broker, _thread) = scripted_broker(vec![GREETED_V5.into(), SUBSCRIBED_V5.into(), b"\xe0\x02\x8e\x00".into()]);
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(config(broker, MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    let (reason, taken_over) = gateway.disconnected().await;
    assert!(taken_over && reason.contains("took over our client id"), "{reason}");
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_filters_are_subscribed_in_the_same_session_and_old_ones_given_up() {
    for (protocol, _) in VERSIONS {
        let broker = mosquitto(&[]);
        let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
        assert_eq!(publish_with(address, "ward/state", b"retained", &["-q", "1", "-r"]), Some(0));
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+", "old/+"]);
        gateway.connected().await;
        let (retained, token) = gateway.publication().await;
        assert!(retained.retained);
        assert!(gateway.source.ack(token.unwrap()));
        tokio::time::sleep(Duration::from_millis(200)).await;
        gateway.kill().await;

        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+", "new/+"]);
        assert_eq!(gateway.connected().await, (1, true, true));
        for topic in ["old/bpm", "new/bpm", "ward/bpm"] {
            publish(address, topic, topic.as_bytes());
        }
        let others = gateway.take_until(b"ward/bpm").await;
        let bodies: Vec<_> = others.iter().filter(|publication| !publication.retained).map(text).collect();
        assert_eq!(bodies, ["new/bpm"]);
        let again = others.iter().filter(|publication| publication.retained).count();
        // MQTT 5 is told not to send retained messages again; 3.1.1 can't be, and the Subscriber ignores them by their flag.
        assert_eq!(again, usize::from(protocol == MqttProtocol::V311));
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_went_back_to_an_older_save_of_the_session_is_subscribed_to_again() {
    for (protocol, _) in VERSIONS {
        let broker = mosquitto(&[]);
        let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
        assert_eq!(publish_with(address, "ward/state", b"retained", &["-q", "1", "-r"]), Some(0));
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
        gateway.connected().await;
        gateway.take_until(b"retained").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        gateway.kill().await;
        // What we know of the session is newer than what the broker has.
        let record = folder.path().join("mqtt-session");
        let known = std::fs::read_to_string(&record).unwrap();
        let newer = known.replace("[\"ward/+\"]", "[\"new/+\",\"ward/+\"]");
        assert_ne!(newer, known);
        std::fs::write(&record, newer).unwrap();

        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+", "new/+"]);
        assert_eq!(gateway.connected().await, (1, true, true));
        publish(address, "new/bpm", b"70");
        let before = gateway.take_until(b"70").await;
        let again = before.iter().filter(|publication| publication.retained).count();
        assert_eq!((before.len(), again), (again, usize::from(protocol == MqttProtocol::V311)), "{protocol:?}");
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn covered_filters_bring_one_copy() {
    let broker = mosquitto(&[]);
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let filters = ["ward/bpm", "ward/+", "+/bpm", "+/+"];
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &filters);
    gateway.connected().await;
    publish(address, "ward/bpm", b"70");
    publish(address, "ward/last", b"last");
    assert_eq!(gateway.take_until(b"last").await.len(), 1);
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_a_corrected_file_is_taken_without_a_restart() {
    use tidegate::lab::mosquitto::{Mosquitto, MosquittoOptions};
    for (protocol, _) in VERSIONS {
        let users = vec![("gateway".to_owned(), "right".to_owned())];
        let broker = Mosquitto::start(&MosquittoOptions { users, ..MosquittoOptions::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "wrong\n").unwrap();
        let mut config = config(broker.address(), protocol);
        config.username = Some("gateway".to_owned());
        config.password_file = Some(password_file.clone());
        let mut gateway = Gateway::start(config, folder.path(), &["ward/+"]);
        let (reason, taken_over) = gateway.disconnected().await;
        assert!(reason.contains("user name or password") && !taken_over, "{reason}");
        std::fs::write(&password_file, "right\n").unwrap();
        gateway.connected().await;
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_qos_0_there_is_nothing_to_acknowledge() {
    for (protocol, _) in VERSIONS {
        let broker = mosquitto(&[]);
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = Gateway::start(config(broker.address(), protocol), folder.path(), &["ward/+"]);
        gateway.connected().await;
        assert_eq!(publish_with(broker.address(), "ward/bpm", b"70", &["-q", "0"]), Some(0));
        let (publication, token) = gateway.publication().await;
        assert_eq!((publication.origin, publication.redelivery, token), (Origin::MqttQos0, None, None));
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_qos_0_what_was_read_before_the_connection_broke_is_handed_on() {
    // 25 publications and a packet that is none, in one piece.
    let mut piece: Vec<u8> = (0..25).flat_map(|n| [0x30, 5, 0, 1, b'a', 0, b'A' + n]).collect();
    piece.extend([0xff, 0]);
    let (broker, _thread) = scripted_broker(vec![GREETED_V5.into(), SUBSCRIBED_V5.into(), piece]);
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(config(broker, MqttProtocol::V5), folder.path(), &["a"]);
    for n in 0..25 {
        let (publication, token) = gateway.publication().await;
        assert_eq!((text(&publication), token), (char::from(b'A' + n).to_string(), None));
    }
    assert!(gateway.disconnected().await.0.contains("can't be understood"));
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poller_ends_with_its_reader() {
    let broker = mosquitto(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(config(broker.address(), MqttProtocol::V5), folder.path(), &["ward/+"]);
    gateway.connected().await;
    gateway.close_and_await_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readings_come_in_order_each_once() {
    for (protocol, version) in VERSIONS {
        let broker = mosquitto(&[]);
        let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
        let mut gateway = Gateway::start(config(address, protocol), folder.path(), &["ward/+"]);
        gateway.connected().await;
        let lines: String = (0..1_000).map(|n| format!("{n}\n")).collect();
        let publisher = tokio::task::spawn_blocking(move || {
            super::bench::publish_lines(address, "ward/bpm", &lines, &["-q", "1", "-V", version])
        });
        let others = gateway.take_until(b"999").await;
        let bodies: Vec<_> = others.iter().map(text).collect();
        assert_eq!(bodies, (0..999).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(publisher.await.unwrap(), Some(0));
        assert!(!matches!(
            gateway.event_within(Duration::from_millis(300)).await,
            Some(SourceEvent::Publication { .. })
        ));
        gateway.kill().await;
    }
}
