//! A chain of lines: whatever is done to it is found.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    archive::ArchivedEntry,
    entry::{EndedBy, EntryState},
    id::MessageId,
    outcome::DeliveryError,
    record::LedgerRecord,
    submission::Origin,
};
use proptest::prelude::*;

fn entry(no: u64) -> ArchivedEntry {
    let record = LedgerRecord {
        destination: "ward".parse().unwrap(),
        seq: no + 3,
        id: MessageId::from_random([no as u8; 16]),
        device: "pump-7".parse().unwrap(),
        state: if no.is_multiple_of(3) { EntryState::Expired } else { EntryState::Delivered },
        accepted_ms: 1_795_435_200_000 + no as i64,
        ended_ms: 1_795_435_260_000 + no as i64,
        attempts: 2,
        receipt: no.is_multiple_of(2).then(|| bytes::Bytes::from_static(b"v1,0,a signature")),
        reason: no.is_multiple_of(3).then_some(DeliveryError::Status(503)),
        ended_by: no.is_multiple_of(3).then_some(EndedBy::MaxAge),
        break_glass: no.is_multiple_of(5),
        reply_to: None,
        origin: Origin::Http,
    };
    ArchivedEntry::of(no, record)
}

fn lines_of(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    let (mut tip, mut text) = (Tip::start(Chain::Ledger), Vec::new());
    for no in numbers {
        tip.write(&entry(no), &mut text);
    }
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// How many lines hold, and what the first that doesn't is.
fn verify(lines: &[Vec<u8>]) -> Result<Whole, (usize, Wrong)> {
    // As a reader of a file would cut them.
    let text = lines.concat();
    let mut verifier = Verifier::of(Chain::Ledger);
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        verifier.take(line).map_err(|wrong| (index, wrong))?;
    }
    Ok(verifier.end())
}

#[test]
fn a_line_is_json_that_holds_no_payload_no_address_and_no_receipt() {
    let lines = lines_of(6..=6);
    let text = String::from_utf8(lines[0].clone()).unwrap();
    let content = concat!(
        r#"{"no":6,"id":"06060606-0606-4606-8606-060606060606","destination":"ward","seq":9,"device":"pump-7","#,
        r#""state":"expired","accepted_ms":1795435200006,"ended_ms":1795435260006,"attempts":2,"#,
        r#""reason":{"status":503},"ended_by":"max_age","receipt_sha256":""#,
    );
    assert!(text.starts_with(content), "{text}");
    assert!(!text.contains("signature"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["prev"], "0".repeat(64));
    let read: ArchivedEntry = serde_json::from_str(&text).unwrap();
    assert_eq!(read, entry(6));
    // As anybody can check it with a text editor and sha256sum.
    let without = format!("{}}}", text.split(",\"hash\"").next().unwrap());
    let digest = Sha256::digest(format!("tidegate ledger line 1\n{without}"));
    assert_eq!(value["hash"], HEXLOWER.encode(&digest));
}

#[test]
fn numbers_that_are_lost_have_a_line_and_repeated_ones_none() {
    let lines = lines_of([20, 21, 21, 20, 25, 26, 28]);
    assert_eq!(lines.len(), 7, "two of them for lost ones");
    let whole = verify(&lines).unwrap();
    assert_eq!((whole.first_no, whole.last_no, whole.lines, whole.lost), (20, 28, 7, 4));
    assert!(whole.from_the_start && String::from_utf8_lossy(&lines[2]).contains("\"no\":24,\"lost_from\":22"));
    assert_eq!(lines_of([0, NO_MAX + 1]).len(), 0, "no numbers that a reader would take for others");
    assert_eq!(verify(&[]).unwrap().lines, 0);
}

#[test]
fn what_is_wrong_is_named() {
    let lines = lines_of(1..=6);
    let without = |gone: usize| [&lines[..gone], &lines[gone + 1..]].concat();
    assert_eq!(verify(&without(2)), Err((2, Wrong::Missing { from: 3, to: 3 })));
    let mut twice = lines.clone();
    twice.insert(3, lines[2].clone());
    assert_eq!(verify(&twice), Err((3, Wrong::Again { no: 3 })));
    let mut cut = lines.clone();
    cut[5].truncate(100);
    assert_eq!(verify(&cut), Err((5, Wrong::CutShort)));
    // One that was made anew, with a hash of its own that holds.
    let mut forged = lines.clone();
    let mut tip = Link::read(Chain::Ledger, lines[1].strip_suffix(b"\n").unwrap()).unwrap().tip();
    forged[2].clear();
    tip.write(&ArchivedEntry { state: EntryState::Purged, ..entry(3) }, &mut forged[2]);
    assert_eq!(verify(&forged), Err((3, Wrong::Unchained)));
}

#[test]
fn a_hash_that_was_noted_is_found_and_one_of_another_chain_is_not() {
    let lines = lines_of(1..=9);
    let hash_of = |index: usize| Link::read(Chain::Ledger, lines[index].strip_suffix(b"\n").unwrap()).unwrap().hash;
    let has = |lines: &[Vec<u8>], hash| {
        let mut verifier = Verifier::of(Chain::Ledger).expecting(hash);
        lines.iter().for_each(|line| verifier.take(line).unwrap());
        verifier.end().has_expected
    };
    assert_eq!(has(&lines, Some(hash_of(4))), Some(true));
    assert_eq!(has(&lines[5..], Some(hash_of(4))), Some(true), "the one right before what is left");
    assert_eq!(has(&lines[6..], Some(hash_of(4))), Some(false));
    assert_eq!(has(&lines, None), None);
    assert_eq!(hash_of(4).to_string().parse(), Ok(hash_of(4)));
    for wrong in ["", "ab", &"A".repeat(64), &"g".repeat(64), &"0".repeat(66)] {
        assert_eq!(wrong.parse::<ChainHash>(), Err(NoChainHash));
    }
    let whole = verify(&lines[5..]).unwrap();
    assert_eq!((whole.first_no, whole.from_the_start, whole.before), (6, false, hash_of(4)));
}

#[test]
fn a_line_of_one_chain_is_none_of_another() {
    let lines = lines_of(1..=2);
    assert_eq!(Link::read(Chain::Audit, lines[0].strip_suffix(b"\n").unwrap()), None);
    assert_eq!(Verifier::of(Chain::Audit).take(&lines[0]), Err(Wrong::Changed));
    let mut text = Vec::new();
    Tip::start(Chain::Audit).write(&entry(1), &mut text);
    assert!(text.is_empty());
}

proptest! {
    #[test]
    fn any_change_of_any_byte_is_found(count in 1_u64..12, at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let lines = lines_of(1..=count);
        let mut text = lines.concat();
        let at = at.index(text.len());
        text[at] ^= flip;
        let line = lines.iter().scan(0, |end, line| { *end += line.len(); Some(*end) }).filter(|end| *end <= at).count();
        let (found, _) = verify(&[text]).expect_err("it was changed");
        // A line end that is none any more makes two lines one; whatever else changes is found in its line.
        prop_assert_eq!(found, line);
    }

    #[test]
    fn removed_repeated_and_moved_lines_are_found(
        count in 2_u64..12,
        act in 0_u8..3,
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let lines = lines_of((1..=count).map(|no| no + no / 5));
        let whole = verify(&lines).unwrap();
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        let mut changed = lines.clone();
        match act {
            0 => drop(changed.remove(a)),
            1 => changed.insert(b, lines[a].clone()),
            _ if a == b => return Ok(()),
            _ => changed.swap(a, b),
        }
        match verify(&changed) {
            Err(_) => {}
            // What goes from an end of the chain is seen by the end being another one.
            Ok(left) => {
                prop_assert!(act == 0 && (a == 0 || a + 1 == lines.len()));
                prop_assert!(left.first_no != whole.first_no || left.last_hash != whole.last_hash);
                prop_assert!(a != 0 || !left.from_the_start);
            }
        }
    }

    #[test]
    fn a_chain_that_is_cut_anywhere_is_found_or_ends_elsewhere(count in 1_u64..8, at in any::<prop::sample::Index>()) {
        let text = lines_of(1..=count).concat();
        let cut = text[..at.index(text.len())].to_vec();
        let ends_whole = cut.last().is_none_or(|byte| *byte == b'\n');
        match verify(&[cut]) {
            Ok(left) => prop_assert!(ends_whole && left.last_no < count),
            Err((_, wrong)) => prop_assert_eq!(wrong, Wrong::CutShort),
        }
    }

    #[test]
    fn no_bytes_are_read_as_a_line_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(Link::read(Chain::Ledger, &bytes), None);
    }
}
