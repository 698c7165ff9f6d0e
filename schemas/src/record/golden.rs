//! The bytes of stored records, as the released layout has them: a change of a stored type that would make outboxes unreadable shows here
//! and not in somebody's ward. How to change a format all the same: `schemas/README.md`.
//!
//! `golden.txt` has a line for each type: its name, the key and the value, in hexadecimal. It is never changed for a layout that was
//! released; another layout gets lines of its own.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::custody::Stop;
use data_encoding::HEXLOWER;

const LINES: &str = include_str!("golden.txt");

fn id() -> MessageId {
    MessageId::from_random([7; 16])
}

fn reply_to() -> ReplyTo {
    ReplyTo {
        topic: "tidegate/receipts/pacemaker/1".into(),
        correlation: Some(bytes::Bytes::from_static(b"\x00\xff7")),
    }
}

fn entry() -> EntryRecord {
    EntryRecord {
        state: EntryState::Parked,
        reason: Some(DeliveryError::Status(422)),
        refusals: 3,
        due_custody_ms: 1_000_000,
        envelope: Envelope {
            id: id(),
            device: "pacemaker".parse().unwrap(),
            label: Some("bpm".into()),
            content_type: "text/plain".into(),
            origin: Origin::MqttQos1,
            accepted_ms: 1_795_435_200_006,
            clock_trusted: true,
            accepted_custody_ms: 42_000,
            expires_custody_ms: Some(90_000),
            body_bytes: 5,
            priority: Priority::High,
            reply_to: Some(reply_to()),
            odometer: Odometer { open_ms: 1, attempts: 2, closings: 3 },
        },
        seal: SEAL_PLAIN,
        chunks: 0,
        body: bytes::Bytes::from_static(b"70bpm"),
    }
}

fn destination() -> DestinationRecord {
    DestinationRecord {
        next_seq: 300,
        head_seq: 5,
        queued: 7,
        held: 1,
        parked: 2,
        dead: 3,
        delivered: 287,
        waiting_bytes: 4_096,
        failures: 4,
        due_custody_ms: 50_000,
        last_error: Some(DeliveryError::DescriptorNotFound),
        park_streak: vec![(6, 1), (9, 2)],
        everything_refused: true,
        circuits_custody_s: vec![40, 41],
        snoozed_custody_ms: 60_000,
        last_failure_custody_ms: Some(41_000),
        last_success_custody_ms: None,
        odometer: Odometer { open_ms: 9, attempts: 8, closings: 7 },
        paused: true,
        signal: Some(SignalRecord {
            ready: true,
            since_custody_ms: 39_000,
            until_custody_ms: 99_000,
            from: SignalSource::Destination,
        }),
        signals_custody_s: vec![39],
        urgent: 2,
        break_glass: 1,
        break_glass_custody_s: vec![38],
        refused_waiting: 1,
        notified: 2,
        throughput: Throughput { messages: 10, bytes: 700, busy_ms: 5_000 },
        signal_sequence: 17,
        ..DestinationRecord::new("cardiology".parse().unwrap())
    }
}

fn meta() -> Meta {
    let account = Account { accepted: 30, queued: 7, held: 1, parked: 2, dead: 3, delivered: 12, ..Account::default() };
    Meta {
        layout: LAYOUT,
        commit_no: 1_234,
        account: Account { expired: 1, purged: 1, quarantined: 1, refused: 1, dropped: 1, ..account },
        next_destination: 2,
        ledger_no: 20,
        ledger_first: 3,
        reported_no: 19,
        report_reserved: Some((19, 20, "tidegate-x".into())),
        reports_lost: 1,
        quarantine_no: 4,
        quarantine_first: 2,
        custody_ms: 42_000,
        wall_ms: 1_795_435_200_006,
        wall_trusted: true,
        oldest_bucket: 5,
        receipted_no: 18,
        receipts_lost: 2,
    }
}

fn ledger() -> LedgerRecord {
    LedgerRecord {
        destination: "cardiology".parse().unwrap(),
        seq: 9,
        id: id(),
        device: "pacemaker".parse().unwrap(),
        state: EntryState::Expired,
        accepted_ms: 1_795_435_200_006,
        ended_ms: 1_795_435_260_006,
        attempts: 4,
        receipt: Some(bytes::Bytes::from_static(b"signed")),
        reason: Some(DeliveryError::ConnectTimeout),
        ended_by: Some(EndedBy::MaxAge),
        break_glass: true,
        reply_to: Some(reply_to()),
        origin: Origin::Http,
    }
}

/// The line that this program would write; it can also read it.
fn line<R: Record + PartialEq + std::fmt::Debug>(name: &str, at: Vec<u8>, record: &R) -> String {
    let value = encode(&at, record);
    assert_eq!(decode::<R>(&at, &value).as_ref(), Ok(record), "{name}");
    format!("{name} {} {}", HEXLOWER.encode(&at), HEXLOWER.encode(&value))
}

#[test]
fn stored_records_are_written_and_read_byte_by_byte_as_they_were() {
    let slot = Some((1, 9, id()));
    let quarantine = QuarantineRecord {
        reason: QuarantineReason::TooFast,
        id: Some(id()),
        device: Some("pacemaker".parse().unwrap()),
        topic: "ward/bpm".into(),
        body_bytes: 5,
        origin: Origin::MqttQos0,
        at_ms: 1_795_435_200_006,
    };
    let wait =
        RefusedWait { device: "pacemaker".parse().unwrap(), priority: Priority::BreakGlass, due_custody_ms: 50_000 };
    let stop = Stop { ended_custody_ms: 1, length_ms: 2, provisional: true };
    let clock = ClockRecord { suspect_until_ms: 3, set_back_ms: 4, stops: vec![stop] };
    let chunk = key::chunk(1, 9, 2);
    let written = [
        line("Meta", key::META.to_vec(), &meta()),
        line("ClockRecord", key::CLOCK.to_vec(), &clock),
        line("Serials", key::SERIALS.to_vec(), &Serials { next: 5 }),
        line("FirstSendings", key::FIRST_SENDINGS.to_vec(), &FirstSendings { count: 300 }),
        line("DestinationRecord", key::destination(1), &destination()),
        line("DestinationNumber", key::name("cardiology"), &DestinationNumber(1)),
        line("EntryRecord", key::aside(1, 9), &entry()),
        line("RefusedWait", key::refused(1, 9), &wait),
        line(
            "PacketSlot",
            key::packet(5),
            &PacketSlot { session: 6, content: [8; 16], made: slot, first_sendings: 29 },
        ),
        line("KeySlot", key::idempotency(4, &[9; 16]), &KeySlot { content: [8; 16], made: (1, 9, id()) }),
        line("QuarantineRecord", key::quarantine(3), &quarantine),
        line("LedgerRecord", key::ledger(20), &ledger()),
        format!("Chunk {} {}", HEXLOWER.encode(&chunk), HEXLOWER.encode(&encode_chunk(&chunk, b"part of a body"))),
    ];
    let golden: Vec<&str> = LINES.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(written.join("\n"), golden.join("\n"), "a stored format has changed: see schemas/README.md");
}

/// Variants are stored by their number.
#[test]
fn states_keep_their_numbers() {
    let numbers: Vec<u8> = EntryState::ALL.iter().map(|state| postcard::to_stdvec(state).unwrap()[0]).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), EntryState::ALL.len());
    let of = |state: EntryState| postcard::to_stdvec(&state).unwrap();
    assert_eq!((of(EntryState::Queued), of(EntryState::Refused)), (vec![0], vec![8]));
}
