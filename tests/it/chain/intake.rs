//! What devices hand in, odd things included, through the whole gateway: it is delivered, in custody, in quarantine, or refused to the
//! device's face; and nothing stops the next reading.

use super::stage::{Options, Place, Stage};
use crate::mqtt::bench::{VERSIONS, publish_with};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tidegate::lab::{HttpAnswer, HttpRequest, ports::loopback};
use tidegate_schemas::{
    config::file::MqttProtocol,
    submission::{BODY_BYTES_MAX, PACKET_BYTES_MAX},
};

const NEXT_MAX: Duration = Duration::from_secs(1);
/// A destination that is never open: what is for it stays where it can be counted.
pub const CLOSED: &str = "[destination.ward]\n\
    onion = \"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80\"\n\
    windows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }\n";

/// Publishes this body and then a small one; checks that the small one is in custody within a second, and with it so many of the two.
fn publish_odd_and_next(stage: &Stage, version: &str, body: &[u8], queued: u64) {
    let before = stage.account("queued");
    // The broker may refuse it, or let its sender believe that it arrived.
    publish_with(stage.broker.address(), "ward/odd/pulse", body, &["-q", "1", "-V", version]);
    stage.publish_one("next");
    let published = Instant::now();
    stage.wait_for("the next reading in custody", |stage| (stage.account("queued") == before + queued).then_some(()));
    assert!(published.elapsed() < NEXT_MAX, "{version}, {} bytes: {:?}", body.len(), published.elapsed());
}

#[test]
fn no_body_keeps_the_next_reading_out_of_custody_for_a_second() {
    const LARGE: usize = 300_000;
    const HUGE: usize = 2 * 1024 * 1024;
    for (protocol, version) in VERSIONS {
        for limited in [true, false] {
            // As in deploy/mosquitto, or without a limit of the broker's own.
            let broker = if limited { vec![] } else { vec![("message_size_limit".to_owned(), "0".to_owned())] };
            let mqtt = format!("protocol = \"{}\"", if protocol == MqttProtocol::V5 { "5" } else { "3.1.1" });
            let (place, more) = (Place::Nowhere, CLOSED.to_owned());
            let stage = Stage::start(Options { place, mqtt, more, broker, ..Options::default() });
            for body in [vec![], vec![b'x'; 12_000], vec![0xff, 0xfe, 0x00, 0xc3, 0x28]] {
                publish_odd_and_next(&stage, version, &body, 2);
            }
            for bytes in [LARGE, HUGE] {
                publish_odd_and_next(&stage, version, &vec![b'x'; bytes], 1);
            }
            let huge_kept = !limited && protocol == MqttProtocol::V311;
            let list = stage.ask("GET", "/api/v1/quarantine", None).unwrap();
            let kept: Vec<u64> =
                list["items"].as_array().unwrap().iter().map(|item| item["body_bytes"].as_u64().unwrap()).collect();
            // Newest first. What is beyond a packet is cut where it is read.
            let wanted = [(huge_kept, PACKET_BYTES_MAX), (true, LARGE)];
            let wanted: Vec<u64> =
                wanted.into_iter().filter(|(kept, _)| *kept).map(|(_, bytes)| bytes as u64).collect();
            assert_eq!(kept, wanted, "{version}, limited: {limited}");
            for item in list["items"].as_array().unwrap() {
                assert_eq!((&item["reason"], &item["topic"]), (&json!("too_large"), &json!("ward/odd/pulse")));
            }
            let log = stage.broker_log();
            let named = log.lines().any(|line| line.contains("too large") && line.contains("PUBLISH"));
            assert_eq!(named, !huge_kept, "{version}, limited: {limited}: {log}");
            let outbox = stage.observation("outbox").unwrap();
            assert_eq!((&outbox["gap"], &outbox["account"]["queued"]), (&json!(0), &json!(8)), "{outbox}");
        }
    }
}

fn put(stage: &Stage, path: &str, body: impl Into<Vec<u8>>) -> HttpAnswer {
    HttpRequest::new("PUT", loopback(stage.http_port), path).body("application/json", body).send().unwrap()
}

/// All that the outbox counts, and what it lists.
fn stored(stage: &Stage) -> (Value, Value) {
    let account = stage.observation("outbox").unwrap()["account"].clone();
    (account, stage.ask("GET", "/api/v1/outbox", None).unwrap()["items"].clone())
}

#[test]
fn the_papers_request_is_delivered_and_what_is_refused_leaves_nothing() {
    const ROUTE: &str = "[[route]]\ntopic = \"patient/+/+\"\ndevice = \"pacemaker\"\ndestination = \"ward\"\n\
                         payload = \"private-iot\"\n";
    const REQUESTS: usize = 20;
    let http = Some(format!("requests_per_minute = {REQUESTS}\n"));
    let stage = Stage::start(Options { http, more: ROUTE.to_owned(), ..Options::default() });
    let paper = r#"{"device":"patient","topic":"tension/mmHg","payload":"Tension: 120.00 mmHg "}"#;
    let answer = put(&stage, "/", paper);
    assert_eq!(answer.status, 201, "{}", answer.text());
    stage.wait_for_delivered(1);
    assert_eq!(stage.readings(), [("pacemaker".to_owned(), "120.00 mmHg".to_owned())]);

    let before = stored(&stage);
    let large =
        format!(r#"{{"device":"patient","topic":"tension/mmHg","payload":"{}"}}"#, "x".repeat(BODY_BYTES_MAX + 1));
    let refused = [
        ("/", "no JSON", 400),
        ("/", r#"{"device":"patient","topic":"tension/mmHg"}"#, 400),
        ("/", r#"{"device":"patient","topic":"tension/mmHg","payload":{"secret":1}}"#, 400),
        ("/", &large, 413),
        ("/v1/messages/ward?device=patient", &"x".repeat(BODY_BYTES_MAX + 1), 413),
        ("/v1/messages/nowhere?device=patient", "120", 404),
        ("/v1/messages/ward?device=a/b", "120", 400),
    ];
    for (path, body, status) in refused {
        let answer = put(&stage, path, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(!detail.is_empty() && !detail.contains("secret"), "{detail}");
    }
    assert_eq!(stored(&stage), before);

    // One after the other until it is too many; each of these is taken or refused, nothing between.
    let answers: Vec<HttpAnswer> = (0..=REQUESTS).map(|_| put(&stage, "/", paper)).collect();
    let taken = answers.iter().filter(|answer| answer.status == 201).count();
    let too_many: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(taken + too_many.len(), answers.len());
    let wait: u64 = too_many.last().unwrap().header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    stage.wait_for_delivered(1 + taken as u64);
    assert_eq!(stage.account("accepted"), 1 + taken as u64);
}
