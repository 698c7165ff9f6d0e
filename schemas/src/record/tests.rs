//! Records survive their bytes, and damage is always seen.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use proptest::prelude::*;

fn entry(body: Vec<u8>, device: String, label: Option<String>) -> EntryRecord {
    EntryRecord {
        state: EntryState::Queued,
        reason: None,
        refusals: 0,
        due_custody_ms: 0,
        envelope: Envelope {
            id: MessageId::from_random([7; 16]),
            device: device.parse().unwrap(),
            label,
            content_type: "text/plain".into(),
            origin: Origin::MqttQos1,
            accepted_ms: 1_795_000_000_000,
            clock_trusted: true,
            accepted_custody_ms: 42,
            expires_custody_ms: None,
            body_bytes: u32::try_from(body.len()).unwrap(),
            priority: crate::submission::Priority::Normal,
            reply_to: None,
            odometer: Odometer::default(),
        },
        seal: SEAL_PLAIN,
        chunks: 0,
        body: body.into(),
    }
}

proptest! {
    #[test]
    fn a_record_survives_its_bytes(body in proptest::collection::vec(any::<u8>(), 0..500), device in "[a-z]{1,64}", label in proptest::option::of(".{0,20}"), seq: u64) {
        let record = entry(body, device, label);
        let key = key::queued(3, seq);
        prop_assert_eq!(key::seq_of(&key), Some(seq));
        prop_assert_eq!(decode::<EntryRecord>(&key, &encode(&key, &record)).unwrap(), record);
    }

    #[test]
    fn one_flipped_bit_is_always_seen(at: prop::sample::Index, bit in 0_u8..8) {
        let key = key::queued(1, 1);
        let mut value = encode(&key, &entry(vec![1, 2, 3], "patient".into(), None));
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        prop_assert!(decode::<EntryRecord>(&key, &value).is_err());
    }

    #[test]
    fn no_bytes_panic(key in proptest::collection::vec(any::<u8>(), 0..20), value in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode::<Meta>(&key, &value);
        let _ = decode::<EntryRecord>(&key, &value);
        let _ = decode_chunk(&key, &value);
        let _ = key::seq_of(&key);
    }
}

#[test]
fn a_value_under_another_key_is_seen() {
    let value = encode(&key::queued(1, 1), &entry(vec![], "patient".into(), None));
    assert_eq!(decode::<EntryRecord>(&key::queued(1, 2), &value), Err(RecordError::Checksum));
}

#[test]
fn places_sort_as_numbers() {
    assert!(key::queued(1, 255) < key::queued(1, 256));
    assert!(key::queued(1, u64::MAX) < key::queued(2, 0));
}
