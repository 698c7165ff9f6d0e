//! The files of the ledger and of the audit log, verified and listed by the command line.

use super::{start, text, tidegate, write_config};
use std::fs;
use tidegate::adapters::chain_files::{ChainFiles, ChainOptions};
use tidegate_schemas::{archive::ArchivedEntry, chain::Chain, entry::EntryState, id::MessageId};

#[tokio::test]
async fn the_ledgers_files_are_verified_and_the_line_that_was_changed_is_named() {
    let state = tempfile::tempdir().unwrap();
    write_config(state.path(), "127.0.0.1:1");
    let verify = async |more: &[&str]| tidegate(state.path(), &[&["ledger", "verify"], more].concat()).await;
    let nothing = verify(&[]).await;
    assert!(nothing.status.code() == Some(1) && text(&nothing.stderr).contains("nothing is verified"), "{nothing:?}");

    let folder = state.path().join("ledger");
    let options = ChainOptions { retention_days: 1, min_free_bytes: 0 };
    let entry = |no: u64| ArchivedEntry {
        no,
        id: MessageId::from_random([7; 16]),
        destination: "cardiology".parse().unwrap(),
        seq: no,
        device: "pacemaker".parse().unwrap(),
        state: EntryState::Delivered,
        accepted_ms: 1_795_435_200_000,
        ended_ms: 1_795_435_200_000 + i64::try_from(no).unwrap() * 21_600_000,
        attempts: 1,
        reason: None,
        ended_by: None,
        break_glass: false,
        receipt_sha256: None,
    };
    ChainFiles::of(Chain::Ledger, state.path(), options).append(&[1, 2, 3, 6, 7, 8].map(entry)).unwrap();
    let shown = verify(&[]).await;
    let told = text(&shown.stdout);
    assert!(
        shown.status.success() && told.contains("3 files, 7 lines: the chain is whole, from no. 1 to no. 8"),
        "{told}"
    );
    assert!(told.contains("begins with the first line") && told.contains("2 lines of the ledger were lost"), "{told}");
    let hash = told.lines().find_map(|line| line.strip_prefix("last hash: ")).unwrap();
    let has = verify(&["--has", hash, "--json"]).await;
    let has: serde_json::Value = serde_json::from_str(&text(&has.stdout)).unwrap();
    assert_eq!((&has["whole"], &has["has_expected"], &has["last_hash"]), (&true.into(), &true.into(), &hash.into()));
    let other = verify(&["--has", &"0f".repeat(32)]).await;
    assert!(other.status.code() == Some(1) && text(&other.stderr).contains("not in this chain"), "{other:?}");
    assert_eq!(verify(&["--has", "short"]).await.status.code(), Some(2));

    let file = folder.join("2026-11-24.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replacen("delivered", "expired", 1)).unwrap();
    let broken = verify(&[]).await;
    let said = text(&broken.stderr);
    assert!(broken.status.code() == Some(1) && broken.stdout.is_empty(), "{broken:?}");
    assert!(said.contains("2026-11-24.jsonl:1: this line was changed"), "{said}");
    let broken: serde_json::Value = serde_json::from_str(&text(&verify(&["--json"]).await.stdout)).unwrap();
    assert_eq!((&broken["whole"], &broken["broken"]["line"]), (&false.into(), &1.into()));
    fs::write(&file, &whole).unwrap();

    // Of a copy, from which retention took the first file, and whose last line is cut.
    fs::remove_file(folder.join("2026-11-23.jsonl")).unwrap();
    let copy = folder.to_str().unwrap();
    let shown = text(&verify(&["--folder", copy]).await.stdout);
    assert!(shown.contains("what came before was removed"), "{shown}");
    let newest = folder.join("2026-11-25.jsonl");
    let rest = fs::read_to_string(&newest).unwrap();
    fs::write(&newest, &rest[..rest.len() - 9]).unwrap();
    let said = text(&verify(&["--folder", copy]).await.stderr);
    assert!(said.contains("2026-11-25.jsonl:") && said.contains("cut short"), "{said}");
}

#[actix::test]
async fn an_act_by_the_command_line_is_in_the_audit_log_which_is_listed_and_verified() {
    let world = start(true).await;
    world.shows(&["outbox", "hold", "cardiology/7"]).await;
    let listed = world.shows(&["audit", "list"]).await;
    for part in ["2027-01-04", "admin", "entry.hold", "cardiology/7", "200, of 1"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let newest: serde_json::Value =
        serde_json::from_str(&world.shows(&["audit", "list", "--last", "1", "--json"]).await).unwrap();
    assert_eq!((&newest["items"][0]["no"], newest["items"].as_array().unwrap().len()), (&2.into(), 1));
    assert!(world.shows(&["audit", "verify"]).await.contains("1 files, 2 lines: the chain is whole"));

    let file = world.state.path().join("audit").join("2027-01-04.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replacen("entry.hold", "entry.keep", 1)).unwrap();
    let broken = tidegate(world.state.path(), &["audit", "verify"]).await;
    assert!(broken.status.code() == Some(1), "{broken:?}");
    assert!(text(&broken.stderr).contains("2027-01-04.jsonl:1: this line was changed"), "{broken:?}");
    world.stop().await;
}
