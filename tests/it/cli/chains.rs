//! The files of the ledger and of the audit log, verified and listed by the command line.

use super::{start, text, tidegate, write_config};
use std::fs;
use tidegate::adapters::chain_files::{ChainFiles, ChainOptions};
use tidegate_schemas::{archive::ArchivedEntry, chain::Chain, entry::EntryState, id::MessageId};

/// An end, the next one six hours after the one before.
fn archived(no: u64, from: &str) -> ArchivedEntry {
    let from: jiff::Timestamp = from.parse().unwrap();
    ArchivedEntry {
        no,
        id: MessageId::from_random([7; 16]),
        destination: "cardiology".parse().unwrap(),
        seq: no,
        device: "pacemaker".parse().unwrap(),
        state: EntryState::Delivered,
        accepted_ms: from.as_millisecond(),
        ended_ms: from.as_millisecond() + i64::try_from(no).unwrap() * 21_600_000,
        attempts: 1,
        reason: None,
        ended_by: None,
        break_glass: false,
        receipt_sha256: None,
    }
}

#[tokio::test]
async fn the_ledgers_files_are_verified_and_the_line_that_was_changed_is_named() {
    let state = tempfile::tempdir().unwrap();
    write_config(state.path(), "127.0.0.1:1");
    let verify = async |more: &[&str]| tidegate(state.path(), &[&["ledger", "verify"], more].concat()).await;
    let nothing = verify(&[]).await;
    assert!(nothing.status.code() == Some(1) && text(&nothing.stderr).contains("nothing is verified"), "{nothing:?}");

    let folder = state.path().join("ledger");
    let options = ChainOptions { retention_days: 1, min_free_bytes: 0 };
    let entry = |no: u64| archived(no, "2026-11-23T12:00:00Z");
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

#[actix::test]
async fn evidence_of_some_days_is_whole_and_can_be_checked_without_the_gateway() {
    let world = start(true).await;
    let state = world.state.path();
    world.shows(&["outbox", "hold", "cardiology/7"]).await;
    // Eight ends in three days, one of a destination that nobody knows any more.
    let options = ChainOptions { retention_days: 400, min_free_bytes: 0 };
    let entry = |no: u64| ArchivedEntry {
        destination: if no == 5 { "gone" } else { "cardiology" }.parse().unwrap(),
        ..archived(no, "2027-01-03T00:00:00Z")
    };
    ChainFiles::of(Chain::Ledger, state, options).append(&[1, 2, 3, 4, 5, 6, 7, 8].map(entry)).unwrap();
    // What is just being written.
    let newest = state.join("ledger/2027-01-05.jsonl");
    let whole = fs::read(&newest).unwrap();
    fs::write(&newest, [&whole[..], b"{\"no\":9,"].concat()).unwrap();

    let days = ["evidence", "--from", "2027-01-04", "--to", "2027-01-05"];
    let told = world.shows(&days).await;
    assert!(told.contains("ledger: 2 files, 5 lines") && told.contains("audit: 1 files, 2 lines"), "{told}");
    let folder = state.join("evidence-2027-01-04-2027-01-05");
    let copy = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&copy("summary.json")).unwrap();
    assert_eq!((&summary["chains"]["ledger"]["first_no"], &summary["agreements"]), (&4.into(), &true.into()));
    let agreements: serde_json::Value = serde_json::from_str(&copy("agreements.json")).unwrap();
    assert_eq!(agreements["history"]["cardiology"][0]["who"], "admin");
    assert_eq!(agreements["history"]["gone"], serde_json::Value::Null);
    assert!(!copy("agreements.json").contains(".onion"));
    let sums =
        std::process::Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&folder).output().unwrap();
    assert!(sums.status.success() && text(&sums.stdout).lines().count() == 5, "{sums:?}");
    let copied = folder.join("ledger");
    assert!(world.shows(&["ledger", "verify", "--folder", copied.to_str().unwrap()]).await.contains("no. 4 to no. 8"));

    let again = tidegate(state, &days).await;
    assert!(again.status.code() == Some(1) && text(&again.stderr).contains("exists"), "{again:?}");
    let backwards = tidegate(state, &["evidence", "--from", "2027-01-05", "--to", "2027-01-04"]).await;
    assert_eq!(backwards.status.code(), Some(2));
    // A line that was changed is in it as it is, and is told.
    let file = state.join("ledger/2027-01-04.jsonl");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, before.replacen("delivered", "purged", 1)).unwrap();
    let broken = tidegate(state, &[&days[..], &["--folder", "other", "--offline"]].concat()).await;
    assert!(broken.status.code() == Some(1), "{broken:?}");
    assert!(text(&broken.stderr).contains("2027-01-04.jsonl:1: this line was changed"), "{broken:?}");
    assert!(state.join("other/summary.json").exists() && !state.join("other/agreements.json").exists());
    world.stop().await;
}
