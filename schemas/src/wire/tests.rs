//! Both directions of every format together, and the promise that two destinations have nothing in common.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    agreement::{Destination, DestinationKeys, ServiceAgreement, Success},
    entry::{Entry, EntryState, Envelope},
    id::MessageId,
    onion::{OnionAddress, OnionEndpoint},
    outcome::DeliveryError,
    submission::{BODY_BYTES_MAX, Origin, Payload},
};
use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeSet;

const FORMATS: [WireFormat; 4] =
    [WireFormat::PrivateIot, WireFormat::Raw, WireFormat::Cloudevents, WireFormat::CloudeventsBatch];
const RECEIVER_SEED: [u8; 32] = [7; 32];

fn destination(format: WireFormat, number: u8) -> Destination {
    Destination {
        id: format!("destination-{number}").parse().unwrap(),
        endpoint: OnionEndpoint { address: OnionAddress::from_public_key([number; 32]), port: 80 },
        agreement: ServiceAgreement { format, ..ServiceAgreement::default() },
        keys: DestinationKeys {
            client_auth: Some([number; 32]),
            write_key: Some(format!("key-{number}")),
            receipt_key: Some(receipt::public_key(&RECEIVER_SEED)),
            signing_seed: [number; 32],
            pseudonym: [number; 16],
        },
    }
}

fn asking_for_receipts(format: WireFormat) -> Destination {
    let mut destination = destination(format, 1);
    destination.agreement.success = Success::Receipt;
    destination
}

fn entry(id: [u8; 16], label: Option<&str>, content_type: &str, body: &[u8]) -> Entry {
    Entry {
        seq: 1,
        state: EntryState::Queued,
        refusals: 0,
        envelope: Envelope {
            id: MessageId::from_random(id),
            device: "pacemaker.1".parse().unwrap(),
            label: label.map(str::to_owned),
            content_type: content_type.to_owned(),
            origin: Origin::MqttQos1,
            accepted_ms: 0,
            clock_trusted: true,
            accepted_custody_ms: 0,
            expires_custody_ms: None,
            body_bytes: u32::try_from(body.len()).unwrap(),
            priority: crate::submission::Priority::Normal,
            reply_to: None,
            odometer: crate::custody::Odometer::default(),
        },
        body: Payload::new(body.to_vec()),
    }
}

fn at() -> Timestamp {
    "2026-11-23T04:05:59Z".parse().unwrap()
}

fn entries() -> impl Strategy<Value = Entry> {
    let label = proptest::option::of("\\PC{0,20}|[ -~]{0,20}|\\s{1,3}");
    let content_type = prop_oneof![
        Just("text/plain".to_owned()),
        Just("application/json".to_owned()),
        Just("application/senml+json; charset=utf-8".to_owned()),
        Just("application/octet-stream".to_owned()),
        Just(String::new()),
        "\\PC{0,40}",
    ];
    let json = prop_oneof![
        Just("null".to_owned()),
        Just("{\"a\":1.0,\"b\":[true,\"x\"]}".to_owned()),
        Just("{\"b\": 1}".to_owned()),
        Just("\"text\"".to_owned()),
        Just("1e999".to_owned()),
        (0_usize..300).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
    ];
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "(?s).{0,200}".prop_map(String::into_bytes),
        json.prop_map(String::into_bytes),
        (0_usize..2_000).prop_map(|n| vec![1; n]),
    ];
    (any::<[u8; 16]>(), label, content_type, body)
        .prop_map(|(id, label, content_type, body)| entry(id, label.as_deref(), &content_type, &body))
}

fn received(request: &WireRequest) -> Result<Vec<ReceivedEvent>, WireProblem> {
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    decode(ReceivedRequest {
        method: request.method,
        path: &request.path,
        headers: &headers,
        body: request.body.reveal(),
    })
}

/// What a receiver must have of an entry.
fn expected(entry: &Entry, format: WireFormat) -> ReceivedEvent {
    let mut event = ReceivedEvent {
        id: Some(entry.envelope.id),
        device: Some(entry.envelope.device.to_string()),
        label: entry.envelope.label.clone(),
        content_type: encode::content_type(&entry.envelope).to_owned(),
        body: entry.body.clone(),
    };
    match format {
        WireFormat::PrivateIot => {
            event.content_type = "text/plain; charset=utf-8".to_owned();
            event.body = Payload::new(encode::content(entry, format).into_owned());
            event.label = None;
        }
        WireFormat::Raw => (event.device, event.label) = (None, None),
        WireFormat::Cloudevents | WireFormat::CloudeventsBatch => {}
    }
    event
}

/// Our receiver's answer to a request, signed with its key.
fn honest_answer(request: &WireRequest, status: u16) -> WireAnswer {
    let results: Vec<EventResult> = received(request)
        .unwrap()
        .iter()
        .map(|event| {
            let id = event.id.unwrap();
            let hash = receipt::content_hash(event.body.reveal());
            EventResult { id: id.to_string(), status, receipt: Some(receipt::issue(&RECEIVER_SEED, id, &hash, at())) }
        })
        .collect();
    answer(200, &serde_json::to_vec(&results).unwrap())
}

fn answer(status: u16, body: &[u8]) -> WireAnswer {
    WireAnswer { status, headers: Vec::new(), body: Bytes::copy_from_slice(body) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_batch_keeps_every_reading_and_its_limits(entries in proptest::collection::vec(entries(), 1..130)) {
        let format = WireFormat::CloudeventsBatch;
        let count = batch_len(&entries, format);
        prop_assert!((1..=BATCH_EVENTS_MAX).contains(&count));
        let request = encode(&entries[..count], &destination(format, 1), at()).unwrap();
        prop_assert!(request.body.len() <= BATCH_BYTES_MAX);
        let wanted: Vec<_> = entries[..count].iter().map(|entry| expected(entry, format)).collect();
        prop_assert_eq!(received(&request).unwrap(), wanted);
        if count < entries.len() {
            prop_assert_eq!(encode(&entries[..=count], &destination(format, 1), at()), Err(DeliveryError::Internal));
        }
    }
}

proptest! {
    #[test]
    fn what_was_encoded_decodes_to_the_same_reading(entry in entries()) {
        for format in FORMATS {
            match encode(std::slice::from_ref(&entry), &destination(format, 1), at()) {
                Ok(request) => prop_assert_eq!(received(&request).unwrap(), [expected(&entry, format)]),
                Err(error) => {
                    prop_assert_eq!((error, format), (DeliveryError::Unrepresentable, WireFormat::PrivateIot));
                    prop_assert!(std::str::from_utf8(entry.body.reveal()).is_err());
                }
            }
        }
    }

    #[test]
    fn headers_hold_nothing_that_could_break_a_line(entry in entries()) {
        for format in FORMATS {
            let Ok(request) = encode(std::slice::from_ref(&entry), &destination(format, 1), at()) else { continue };
            for (name, value) in &request.headers {
                prop_assert!(value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{}", name);
            }
        }
    }

    #[test]
    fn two_destinations_have_nothing_in_common_but_the_reading(
        first in entries(), second_id: [u8; 16], format in proptest::sample::select(FORMATS.to_vec()),
    ) {
        let mut second = first.clone();
        second.envelope.id = MessageId::from_random(second_id);
        prop_assume!(first.envelope.id != second.envelope.id);
        let reading: BTreeSet<String> = [
            "ce-subject", "ce-label", "content-type",
        ].map(str::to_owned).into();
        let constant: BTreeSet<&str> = ["1.0", cloudevents::EVENT_TYPE, "application/json", BATCH_CONTENT_TYPE].into();
        let later = at() + jiff::SignedDuration::from_mins(1);
        let (Ok(one), Ok(two)) = (
            encode(&[first], &destination(format, 1), at()),
            encode(&[second], &destination(format, 2), later),
        ) else { return Ok(()) };
        prop_assert_eq!(
            one.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            two.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        );
        for ((name, one), (_, two)) in one.headers.iter().zip(&two.headers) {
            prop_assert!(one != two || reading.contains(*name) || constant.contains(one.as_str()), "{}", name);
        }
        if format == WireFormat::CloudeventsBatch {
            let event = |request: &WireRequest| -> serde_json::Map<String, serde_json::Value> {
                let mut events: Vec<_> = serde_json::from_slice(request.body.reveal()).unwrap();
                events.remove(0)
            };
            let (one, two) = (event(&one), event(&two));
            let shared: BTreeSet<_> = one.iter().filter(|(key, value)| two.get(*key) == Some(value)).map(|(key, _)| key.as_str()).collect();
            let allowed: BTreeSet<_> =
                ["specversion", "type", "subject", "label", "datacontenttype", "data", "data_base64"].into();
            prop_assert!(shared.is_subset(&allowed), "{shared:?}");
        }
    }

    #[test]
    fn no_answer_makes_the_judge_panic_or_forget_an_entry(
        entries in proptest::collection::vec(entries(), 0..4),
        status: u16,
        retry_after in "\\PC{0,12}|[0-9]{0,30}",
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            "\\[\\{\"id\":\"[a-f0-9-]{0,36}\",\"status\":[0-9]{1,6},\"receipt\":\"v1,[0-9-]{0,20},[A-Za-z0-9+/=]{0,90}\"\\}\\]".prop_map(String::into_bytes),
            (0_usize..100_000).prop_map(|n| vec![b'['; n]),
        ],
    ) {
        let answer = WireAnswer { status, headers: vec![("retry-after".into(), retry_after)], body: body.into() };
        for format in FORMATS {
            let verdicts = judge(&entries, &asking_for_receipts(format), &answer);
            prop_assert_eq!(verdicts.len(), entries.len());
            prop_assert!(verdicts.iter().all(Result::is_err));
            prop_assert_eq!(judge(&entries, &destination(format, 1), &answer).len(), entries.len());
        }
    }

    #[test]
    fn no_request_makes_the_receiver_panic(
        path in "/|/v1/events|\\PC{0,10}", body in proptest::collection::vec(any::<u8>(), 0..200),
        headers in proptest::collection::vec(("ce-[a-z]{2,11}|webhook-id|content-type", "\\PC{0,20}|1.0|%[0-9A-F]?"), 0..6),
    ) {
        for method in ["PUT", "POST", "GET"] {
            let _ = decode(ReceivedRequest { method, path: &path, headers: &headers, body: &body.clone().into() });
        }
    }

    #[test]
    fn an_honest_answer_delivers_everything_with_receipts(entries in proptest::collection::vec(entries(), 1..5)) {
        for format in FORMATS {
            let run = &entries[..batch_len(&entries, format)];
            let destination = asking_for_receipts(format);
            let Ok(request) = encode(run, &destination, at()) else { continue };
            for verdict in judge(run, &destination, &honest_answer(&request, 201)) {
                prop_assert!(verdict.unwrap().is_some());
            }
        }
    }
}

fn pacemaker() -> Entry {
    entry([0x11; 16], Some("mmHg"), "text/plain", b"120.00 mmHg")
}

fn verdict_of(format: WireFormat, answer: &WireAnswer) -> Option<DeliveryError> {
    judge(&[pacemaker()], &asking_for_receipts(format), answer)[0].clone().err().map(|failure| failure.error)
}

#[test]
fn the_papers_request_is_the_papers() {
    let request = encode(&[pacemaker()], &destination(WireFormat::PrivateIot, 1), at()).unwrap();
    assert_eq!((request.method, request.path.as_str()), ("PUT", "/"));
    assert_eq!(&request.body.reveal()[..], br#"{"id_device":"pacemaker.1","data":"mmHg: 120.00 mmHg"}"#);
    let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["content-type", "idempotency-key", "webhook-id", "authorization"]);
}

#[test]
fn a_cloudevent_is_one_by_the_standard() {
    let request = encode(&[pacemaker()], &destination(WireFormat::Cloudevents, 1), at()).unwrap();
    let headers = |name: &str| request.headers.iter().find(|(known, _)| *known == name).unwrap().1.as_str();
    assert_eq!(headers("ce-id"), "11111111-1111-4111-9111-111111111111");
    assert_eq!(headers("idempotency-key"), "\"11111111-1111-4111-9111-111111111111\"");
    assert_eq!(headers("ce-source"), "urn:uuid:01010101-0101-4101-8101-010101010101");
    assert_eq!(headers("webhook-timestamp"), "1795406700", "the start of the minute");
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    let valid =
        |body: &[u8]| signature::verify(&key, headers("webhook-id"), 1_795_406_700, body, headers("webhook-signature"));
    assert!(valid(b"120.00 mmHg") && !valid(b"121.00 mmHg"));
    assert!(signature::public_key_text(&[1; 32]).starts_with("whpk_"));
}

#[test]
fn a_batch_that_is_sent_again_has_the_same_id_and_other_batches_have_others() {
    let id = |entries: &[Entry]| {
        let request = encode(entries, &destination(WireFormat::CloudeventsBatch, 1), at()).unwrap();
        request.headers.into_iter().find(|(name, _)| *name == "webhook-id").unwrap().1
    };
    let other = entry([0x22; 16], None, "text/plain", b"70");
    assert_eq!(id(&[pacemaker(), other.clone()]), id(&[pacemaker(), other.clone()]));
    assert_ne!(id(&[pacemaker(), other.clone()]), id(&[other, pacemaker()]));
}

#[test]
fn the_largest_body_fits_every_format_alone() {
    for (content_type, byte) in [("application/octet-stream", 0xff), ("text/plain", 1)] {
        let large = entry([1; 16], Some("x"), content_type, &vec![byte; BODY_BYTES_MAX]);
        for format in FORMATS {
            let Ok(request) = encode(std::slice::from_ref(&large), &destination(format, 1), at()) else {
                assert_eq!((format, byte), (WireFormat::PrivateIot, 0xff));
                continue;
            };
            assert_eq!(received(&request).unwrap(), [expected(&large, format)]);
            assert_eq!(batch_len(&[large.clone(), pacemaker()], format), 1);
        }
    }
}

#[test]
fn a_page_that_answers_200_to_everything_delivers_nothing_where_receipts_are_agreed() {
    for format in FORMATS {
        for body in ["", "OK", "<html>", "{}", "[]", "[1]", "null"] {
            assert_eq!(verdict_of(format, &answer(200, body.as_bytes())), Some(DeliveryError::ReceiptMissing));
            let trusting = judge(&[pacemaker()], &destination(format, 1), &answer(204, body.as_bytes()));
            assert_eq!(trusting, [Ok(None)]);
        }
    }
}

#[test]
fn a_receipt_holds_for_its_message_its_content_and_its_key_alone() {
    for format in FORMATS {
        let run = [pacemaker()];
        let destination = asking_for_receipts(format);
        let honest = honest_answer(&encode(&run, &destination, at()).unwrap(), 200);
        assert!(judge(&run, &destination, &honest)[0].is_ok());
        let mut changed = run.clone();
        changed[0].body = Payload::new("121.00 mmHg");
        assert_eq!(judge(&changed, &destination, &honest)[0].clone().unwrap_err().error, DeliveryError::ReceiptWrong);
        let mut other_key = destination.clone();
        other_key.keys.receipt_key = Some(receipt::public_key(&[8; 32]));
        assert_eq!(judge(&run, &other_key, &honest)[0].clone().unwrap_err().error, DeliveryError::ReceiptWrong);
    }
}

#[test]
fn each_event_of_a_batch_has_its_own_verdict() {
    let run = [1, 2, 3, 4].map(|n| entry([n; 16], None, "text/plain", b"70"));
    let destination = asking_for_receipts(WireFormat::CloudeventsBatch);
    let honest = honest_answer(&encode(&run, &destination, at()).unwrap(), 201);
    let mut results: Vec<EventResult> = serde_json::from_slice(&honest.body).unwrap();
    results[0].status = 422;
    results[1].receipt = None;
    results.remove(2);
    let verdicts = judge(&run, &destination, &answer(200, &serde_json::to_vec(&results).unwrap()));
    let errors: Vec<_> = verdicts.into_iter().map(|verdict| verdict.err().map(|failure| failure.error)).collect();
    assert_eq!(
        errors,
        [
            Some(DeliveryError::Status(422)),
            Some(DeliveryError::ReceiptMissing),
            Some(DeliveryError::AnswerMalformed),
            None
        ]
    );
}

#[test]
fn statuses_redirects_and_retry_after_are_read_as_they_are() {
    for (status, error) in [
        (301, DeliveryError::Redirect(301)),
        (304, DeliveryError::Redirect(304)),
        (404, DeliveryError::Status(404)),
        (503, DeliveryError::Status(503)),
        (0, DeliveryError::AnswerMalformed),
        (999, DeliveryError::AnswerMalformed),
    ] {
        for format in FORMATS {
            assert_eq!(verdict_of(format, &answer(status, b"")), Some(error));
        }
    }
    for (text, wanted) in [("120", Some(120)), ("99999999999", Some(u32::MAX)), ("-1", None), ("Mon, 23 Nov", None)] {
        let answer =
            WireAnswer { status: 503, headers: vec![("retry-after".to_owned(), text.to_owned())], body: Bytes::new() };
        let verdicts = judge(&[pacemaker()], &destination(WireFormat::Raw, 1), &answer);
        assert_eq!(verdicts[0].clone().unwrap_err().retry_after_s, wanted);
    }
}

#[test]
fn only_a_refusal_of_several_messages_together_asks_for_one_by_one() {
    let run = [pacemaker(), pacemaker()];
    let usual = crate::agreement::StatusLists::default();
    assert!(refuses_as_a_whole(&run, &usual, &answer(422, b"")));
    assert!(refuses_as_a_whole(&run, &usual, &answer(410, b"")));
    assert!(!refuses_as_a_whole(&run[..1], &usual, &answer(422, b"")));
    for status in [200, 302, 401, 404, 429, 503] {
        assert!(!refuses_as_a_whole(&run, &usual, &answer(status, b"")));
    }
}

#[test]
fn debug_shows_neither_keys_nor_readings() {
    let request = encode(&[pacemaker()], &destination(WireFormat::Raw, 1), at()).unwrap();
    let text = format!("{request:?} {:?}", answer(200, b"120.00 mmHg"));
    assert!(!text.contains("key-1") && !text.contains("120"), "{text}");
}

#[test]
fn the_agreements_own_statuses_go_before_the_usual_ones() {
    let statuses = crate::agreement::StatusLists { ok: vec![304], park: vec![418], refuse: vec![404] };
    let mut to = destination(WireFormat::Raw, 1);
    (to.agreement.success, to.agreement.statuses) = (Success::Any2xx, statuses.clone());
    assert_eq!(judge(&[pacemaker()], &to, &answer(304, b""))[0], Ok(None));
    assert_eq!(
        judge(&[pacemaker()], &to, &answer(302, b""))[0].clone().unwrap_err().error,
        DeliveryError::Redirect(302)
    );
    let run = [pacemaker(), pacemaker()];
    for (status, as_a_whole) in [(304, false), (418, true), (404, true), (403, false)] {
        assert_eq!(refuses_as_a_whole(&run, &statuses, &answer(status, b"")), as_a_whole, "{status}");
    }
}
