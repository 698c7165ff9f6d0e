//! The receiver from outside, over real HTTP: what it takes, what it refuses, what it shows, and what it never forgets.

mod crash;
mod harness;
mod pages;

use harness::{
    FORMATS, Running, clock, connect, entry, folder, options, pressure, send, send_over, send_wire, start, start_with,
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use std::{collections::BTreeSet, time::Duration};
use tidegate::receiver::{Connection, Entrance, EntranceError, Receiver, ReceiverError, StoreError};
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::{
    outcome::DeliveryError,
    wire::{BATCH_CONTENT_TYPE, WireFormat, encode, judge},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn every_format_is_stored_once_when_it_is_sent_again_and_every_receipt_verifies() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    for (number, format) in (1..).zip(FORMATS) {
        let entries = [pressure(number)];
        let first = receiver.deliver(&entries, format).await;
        receiver.clock.step(3_600);
        let second = receiver.deliver(&entries, format).await;
        assert_eq!((first.status, second.status), (201, 200), "{format:?}");
        for answer in [first, second] {
            let verdicts = judge(&entries, &receiver.destination(format), &answer);
            assert!(verdicts[0].as_ref().unwrap().is_some(), "{format:?}");
        }
    }
    let stored = receiver.readings().await;
    assert_eq!(stored.len(), 4);
    assert_eq!(stored[0]["text"], "mmHg: 111.00 mmHg");
    for (reading, number) in stored.iter().zip(1..) {
        assert_eq!(reading["id"], pressure(number).envelope.id.to_string());
        assert_eq!(reading["gateway"], "home");
    }
    for (reading, device) in stored.iter().zip([Some("pacemaker"), None, Some("pacemaker"), Some("pacemaker")]) {
        assert_eq!(reading["device"].as_str(), device);
    }
    assert_eq!(stored[3]["label"], "mmHg");
    receiver.stop().await;
}

#[tokio::test]
async fn each_reading_of_a_batch_has_its_own_result() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let format = WireFormat::CloudeventsBatch;
    receiver.deliver(&[pressure(1)], format).await;
    let mut changed = pressure(2);
    receiver.deliver(&[changed.clone()], format).await;
    changed.body = tidegate_schemas::submission::Payload::new("another content");
    let batch = [pressure(1), changed, pressure(3), pressure(3)];
    let answer = receiver.deliver(&batch, format).await;
    assert_eq!(answer.status, 207);
    let verdicts = judge(&batch, &receiver.destination(format), &answer);
    assert!(verdicts[0].is_ok() && verdicts[2].is_ok() && verdicts[3].is_ok());
    assert_eq!(verdicts[1].as_ref().unwrap_err().error, DeliveryError::Status(422));
    assert_eq!(receiver.readings().await.len(), 3);
    receiver.stop().await;
}

#[tokio::test]
async fn who_shows_no_write_key_writes_nothing() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    for format in FORMATS {
        for key in [None, Some("wrong".to_owned()), Some(String::new()), Some(receiver.password())] {
            let destination = harness::destination(&receiver.introduction, key, format);
            let request = encode(&[pressure(1)], &destination, receiver.clock.now()).unwrap();
            let answer = send_wire(receiver.address, &request).await;
            assert_eq!(answer.status, 401, "{format:?}");
            let verdict = judge(&[pressure(1)], &destination, &answer)[0].clone();
            assert_eq!(verdict.unwrap_err().error, DeliveryError::Status(401));
        }
    }
    assert!(receiver.readings().await.is_empty());
    receiver.stop().await;
}

#[tokio::test]
async fn the_papers_format_alone_may_be_exempted_from_the_key() {
    let (_guard, path) = folder();
    let receiver = start_with(&path, |options| options.open_private_iot = true).await;
    let paper = r#"{"id_device": "patient", "data": "mmHg: 120.00 mmHg"}"#;
    let json = ("content-type", "application/json");
    for _ in 0..2 {
        assert_eq!(send(receiver.address, "PUT", "/", &[json], paper).await.status, 201);
    }
    let wrong = [json, ("authorization", "Bearer wrong")];
    assert_eq!(send(receiver.address, "PUT", "/", &wrong, paper).await.status, 401);
    assert_eq!(send(receiver.address, "POST", "/", &[json], paper).await.status, 401);
    let stored = receiver.readings().await;
    assert_eq!(stored.len(), 2, "without an id, equal content is no duplicate");
    assert_eq!((&stored[0]["device"], &stored[0]["gateway"]), (&"patient".into(), &"(open)".into()));
    receiver.stop().await;
}

#[tokio::test]
async fn who_shows_no_password_reads_nothing() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    receiver.deliver(&[pressure(7)], WireFormat::Cloudevents).await;
    let write_key = format!("Bearer {}", receiver.write_key());
    let wrong = harness::basic(&receiver.write_key());
    let places = [
        "/",
        "/devices",
        "/devices/1",
        "/devices/1/chart.png?measure=mmHg",
        "/readings/1",
        "/readings/1/body",
        "/v1/readings",
        "/v1/devices",
        "/v1/live",
        "/nothing",
    ];
    for place in places {
        for headers in [
            vec![],
            vec![("authorization", write_key.as_str())],
            vec![("authorization", wrong.as_str())],
            vec![("cookie", "tidegate-session=x")],
        ] {
            let answer = send(receiver.address, "GET", place, &headers, "").await;
            assert_eq!(answer.status, 401, "{place}");
            assert!(!answer.text().contains("117") && !answer.text().contains("pacemaker"), "{place}");
        }
    }
    assert_eq!(send(receiver.address, "GET", "/", &[("authorization", &receiver.basic())], "").await.status, 200);
    receiver.stop().await;
}

#[tokio::test]
async fn what_is_too_large_or_malformed_is_refused_with_a_clear_status() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let key = format!("Bearer {}", receiver.write_key());
    let key = ("authorization", key.as_str());
    let batch = ("content-type", BATCH_CONTENT_TYPE);
    let large = vec![b'x'; 1024 * 1024 + 1];
    let body = |bytes: usize| vec![b'x'; bytes];
    let cases = vec![
        (413, "POST", "/", vec![key], large.clone()),
        (413, "POST", "/", vec![key], body(128 * 1024 + 1)),
        (201, "POST", "/", vec![key], body(128 * 1024)),
        (400, "PUT", "/", vec![key], b"not json".to_vec()),
        (400, "PUT", "/", vec![key], br#"{"id_device": "a"}"#.to_vec()),
        (400, "PUT", "/", vec![key], br#"{"id_device": "", "data": "1"}"#.to_vec()),
        (413, "PUT", "/", vec![key], format!(r#"{{"id_device": "{}", "data": "1"}}"#, "d".repeat(65)).into_bytes()),
        (400, "POST", "/", vec![key, ("webhook-id", "1")], b"x".to_vec()),
        (400, "POST", "/", vec![key, ("ce-specversion", "0.3")], b"x".to_vec()),
        (415, "POST", "/v1/events", vec![key, ("content-type", "application/json")], b"[]".to_vec()),
        (400, "POST", "/v1/events", vec![key, batch], b"{}".to_vec()),
        (405, "DELETE", "/", vec![key], Vec::new()),
        (405, "PUT", "/v1/events", vec![key], Vec::new()),
        (405, "POST", "/devices", vec![key], Vec::new()),
    ];
    for (status, method, place, headers, body) in cases {
        let bytes = body.len();
        let answer = send(receiver.address, method, place, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {place} with {bytes} bytes: {}", answer.text());
        if status != 201 {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["status"], status);
        }
    }
    assert_eq!(receiver.readings().await.len(), 1);

    // A body whose length nobody announced is cut off at the limit too.
    let mut stream = tokio::net::TcpStream::connect(receiver.address).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\ntransfer-encoding: chunked\r\n\r\n", key.1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &body(0x10000), b"\r\n"].concat();
    for _ in 0..17 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    receiver.stop().await;
}

#[tokio::test]
async fn a_full_store_refuses_what_is_new_and_still_knows_what_it_has() {
    let (_guard, path) = folder();
    let receiver = start_with(&path, |options| options.limits.store.stored_bytes_max = 5_000).await;
    let format = WireFormat::CloudeventsBatch;
    let large = |number| entry(number, None, "text/plain", vec![b'x'; 4_000]);
    assert_eq!(receiver.deliver(&[large(1)], format).await.status, 201);
    let full = receiver.deliver(&[large(2)], format).await;
    assert_eq!(full.status, 507);
    assert!(full.headers.contains(&("retry-after".to_owned(), "900".to_owned())));
    let verdict = judge(&[large(2)], &receiver.destination(format), &full)[0].clone().unwrap_err();
    assert_eq!((verdict.error, verdict.retry_after_s), (DeliveryError::Status(507), Some(900)));
    // A small one behind it would have room, and must not overtake it.
    let batch = [large(1), large(2), pressure(3)];
    let mixed = receiver.deliver(&batch, format).await;
    assert_eq!(mixed.status, 207);
    let verdicts = judge(&batch, &receiver.destination(format), &mixed);
    assert!(verdicts[0].is_ok() && verdicts[1].is_err() && verdicts[2].is_err());
    assert_eq!(receiver.readings().await.len(), 1);
    receiver.stop().await;
}

#[tokio::test]
async fn a_restart_forgets_neither_readings_nor_ids_nor_keys() {
    let (_guard, path) = folder();
    let first = start(&path).await;
    let (key, basic) = (first.write_key(), first.basic());
    let large = entry(2, Some("trace"), "application/octet-stream", vec![0xee; 100_000]);
    first.deliver(&[pressure(1)], WireFormat::CloudeventsBatch).await;
    first.deliver(std::slice::from_ref(&large), WireFormat::CloudeventsBatch).await;
    let receipt_key = first.introduction.receipt_key.clone();
    first.stop().await;

    let second = start(&path).await;
    assert_eq!(second.introduction.receipt_key, receipt_key);
    assert_eq!((&second.introduction.fresh.password, second.introduction.fresh.write_keys.len()), (&None, 0));
    let destination = harness::destination(&second.introduction, Some(key), WireFormat::CloudeventsBatch);
    for again in [pressure(1), large.clone()] {
        let request = encode(std::slice::from_ref(&again), &destination, second.clock.now()).unwrap();
        let answer = send_wire(second.address, &request).await;
        assert_eq!(answer.status, 200);
        assert!(judge(&[again], &destination, &answer)[0].is_ok());
    }
    let stored = harness::readings(second.address, &basic).await;
    assert_eq!(stored.len(), 2);
    let base64 = data_encoding::BASE64.encode(large.body.reveal());
    assert_eq!(stored[1]["base64"].as_str(), Some(base64.as_str()));
    second.stop().await;
}

#[tokio::test]
async fn what_arrives_at_once_is_stored_whole_and_once() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let senders = (0..16_u64).map(|sender| {
        let receiver = &receiver;
        async move {
            for number in 0..25 {
                let entries = [pressure(sender * 1_000 + number), pressure(number)];
                let answer = receiver.deliver(&entries, WireFormat::CloudeventsBatch).await;
                let verdicts = judge(&entries, &receiver.destination(WireFormat::CloudeventsBatch), &answer);
                assert!(verdicts.iter().all(Result::is_ok));
            }
        }
    });
    futures_util::future::join_all(senders).await;
    let stored = receiver.readings().await;
    let ids: BTreeSet<String> = stored.iter().map(|reading| reading["id"].to_string()).collect();
    assert_eq!((stored.len(), ids.len()), (16 * 25, 16 * 25));
    receiver.stop().await;
}

#[tokio::test]
async fn connections_may_come_from_anywhere_and_are_kept_alive() {
    let (_guard, path) = folder();
    let receiver = Receiver::open(options(&path, clock())).await.unwrap();
    let basic = harness::basic(receiver.introduction().fresh.password.as_ref().unwrap().reveal());
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    // An onion service's streams: one comes, and the entrance stays open.
    let streams = futures_util::StreamExt::chain(
        futures_util::stream::iter([Box::new(theirs) as Connection]),
        futures_util::stream::pending(),
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(receiver.serve(vec![Entrance::streams(streams)], async {
        let _ = stopped.await;
    }));
    let (mut sender, connection) = handshake::<_, Full<bytes::Bytes>>(TokioIo::new(ours)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let answer = send_over(&mut sender, "GET", "/v1/readings", &[("authorization", &basic)], "").await;
        assert_eq!(answer.status, 200);
        assert_eq!((answer.header("date"), answer.header("server")), (None, None));
    }
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn silent_strangers_lose_their_place_and_a_known_peer_keeps_its_own() {
    let (_guard, path) = folder();
    let receiver = start_with(&path, |options| {
        options.limits.connections_max = 3;
        options.limits.stranger_time = Duration::from_millis(500);
    })
    .await;
    let basic = receiver.basic();
    let known = [("authorization", basic.as_str())];
    let mut lane = connect(receiver.address).await;
    assert_eq!(send_over(&mut lane, "GET", "/v1/readings", &known, "").await.status, 200);
    // All other places are taken by peers who say nothing, or never the right word.
    let mut silent = tokio::net::TcpStream::connect(receiver.address).await.unwrap();
    let mut asking = tokio::net::TcpStream::connect(receiver.address).await.unwrap();
    asking.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let late = send(receiver.address, "GET", "/livez", &[], "");
    let late = tokio::time::timeout(Duration::from_secs(30), late).await.expect("a place within the strangers' time");
    assert_eq!(late.status, 200);
    for stranger in [&mut silent, &mut asking] {
        let mut said = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(30), stranger.read_to_end(&mut said)).await;
        end.expect("the stranger's connection is ended").unwrap();
    }
    assert_eq!(send_over(&mut lane, "GET", "/v1/readings", &known, "").await.status, 200);
    receiver.stop().await;
}

#[tokio::test]
async fn a_store_that_fills_up_says_so_on_its_pages() {
    let (_guard, path) = folder();
    let receiver = start_with(&path, |options| options.limits.store.stored_bytes_max = 5_000).await;
    let large = |number| entry(number, None, "text/plain", vec![b'x'; 4_000]);
    let basic = receiver.basic();
    let page = async || send(receiver.address, "GET", "/", &[("authorization", &basic)], "").await.text();
    assert!(!page().await.contains("class=\"warning\""));
    receiver.deliver(&[large(1)], WireFormat::CloudeventsBatch).await;
    assert!(page().await.contains("The store is 88 % full."));
    receiver.deliver(&[large(2)], WireFormat::CloudeventsBatch).await;
    assert!(page().await.contains("new readings are refused, and wait at their gateways"));
    let stranger = send(receiver.address, "GET", "/", &[], "").await;
    assert!(!stranger.text().contains("warning"), "strangers hear nothing of it");
    receiver.stop().await;
}

#[tokio::test]
async fn an_entrance_that_ends_ends_the_receiver_with_an_error() {
    let (_guard, path) = folder();
    let receiver = Receiver::open(options(&path, clock())).await.unwrap();
    let ended = receiver.serve(vec![Entrance::streams(futures_util::stream::empty())], std::future::pending()).await;
    assert!(matches!(ended, Err(ReceiverError::EntranceGone)));
}

#[tokio::test]
async fn only_loopback_is_listened_on_and_a_folder_has_one_receiver() {
    let refused = Entrance::loopback("0.0.0.0:0".parse().unwrap()).await;
    assert!(matches!(refused, Err(EntranceError::NotLoopback(_))));
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let second = Receiver::open(options(&path, clock())).await.err().unwrap();
    assert!(matches!(second, ReceiverError::Store(StoreError::Locked(_))), "{second}");
    receiver.stop().await;
}

#[tokio::test]
async fn noise_on_a_connection_ends_that_connection_alone() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let long_header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    for noise in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\r\n\r\n\r\n", long_header.as_str()] {
        let mut stream = tokio::net::TcpStream::connect(receiver.address).await.unwrap();
        stream.write_all(noise.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let odd = [
        "/%00",
        "/devices/-1",
        "/devices/99999999999999999999",
        "/readings/0",
        "/devices/1/chart.png",
        "/..",
        "//",
        "/v1/readings?limit=x&after=-1&device=%ff",
    ];
    for place in odd {
        let answer = send(receiver.address, "GET", place, &[("authorization", &receiver.basic())], "").await;
        assert!([200, 404].contains(&answer.status), "{place}: {}", answer.status);
    }
    assert_eq!(send(receiver.address, "GET", "/livez", &[], "").await.text(), "ok\n");
    receiver.stop().await;
}

#[tokio::test]
async fn a_live_page_hears_of_a_new_reading_and_learns_nothing_else() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let mut sender = connect(receiver.address).await;
    let request = http::Request::get("/v1/live")
        .header("host", "x")
        .header("authorization", receiver.basic())
        .body(Full::default())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"retry:"));
    receiver.deliver(&[pressure(1)], WireFormat::Cloudevents).await;
    let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&event[..], b"event: readings\ndata: new\n\n");
    receiver.stop().await;
    assert!(body.frame().await.is_none_or(|frame| frame.is_err()), "the stream ends with the receiver");
}

#[tokio::test]
async fn the_text_for_the_gateways_config_is_complete() {
    let (_guard, path) = folder();
    let receiver: Running = start(&path).await;
    let onion = receiver.destination(WireFormat::Raw).endpoint;
    let text = receiver.introduction.destination_toml(&"ward".parse().unwrap(), &"home".parse().unwrap(), Some(&onion));
    let table: toml::Table = text.parse().unwrap();
    let ward = &table["destination"]["ward"];
    let endpoint: tidegate_schemas::onion::OnionEndpoint = ward["onion"].as_str().unwrap().parse().unwrap();
    assert_eq!(endpoint, onion);
    assert_eq!(ward["write_key"]["file"].as_str(), Some("home.write_key"));
    assert_eq!(ward["receipt_key"].as_str(), Some(receiver.introduction.receipt_key.as_str()));
    assert!(!format!("{:?}", receiver.introduction).contains(&receiver.write_key()));
    receiver.stop().await;
}
