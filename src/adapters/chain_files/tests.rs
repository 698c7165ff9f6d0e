//! The files on a real disk: the turn of a day, a clock that goes back, torn ends, damage, retention, a disk that is full.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::os::unix::fs::PermissionsExt as _;
use tidegate_schemas::{
    chain::{Verifier, Whole},
    entry::EntryState,
    id::MessageId,
};

const OPTIONS: ChainOptions = ChainOptions { retention_days: 30, min_free_bytes: 0 };

fn entry(no: u64, ended: &str) -> ArchivedEntry {
    let ended_ms = ended.parse::<Timestamp>().unwrap().as_millisecond();
    ArchivedEntry {
        no,
        id: MessageId::from_random([7; 16]),
        destination: "ward".parse().unwrap(),
        seq: no,
        device: "pump".parse().unwrap(),
        state: EntryState::Delivered,
        accepted_ms: ended_ms - 5,
        ended_ms,
        attempts: 1,
        reason: None,
        ended_by: None,
        break_glass: false,
        receipt_sha256: None,
    }
}

/// Entries of noon of a day of November 2026.
fn day(day: u8, numbers: std::ops::RangeInclusive<u64>) -> Vec<ArchivedEntry> {
    numbers.map(|no| entry(no, &format!("2026-11-{day:02}T12:00:00Z"))).collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn dir(&self) -> PathBuf {
        self.0.path().join("ledger")
    }
    fn open(&self) -> ChainFiles {
        ChainFiles::of(Chain::Ledger, self.0.path(), OPTIONS)
    }
    fn file(&self, day: u8) -> PathBuf {
        self.dir().join(format!("2026-11-{day:02}.jsonl"))
    }
    /// The lines of each file.
    fn lines(&self) -> Vec<(String, usize)> {
        let files = files_in(&self.dir()).unwrap();
        files
            .into_iter()
            .map(|(day, path)| (day.to_string(), fs::read_to_string(path).unwrap().lines().count()))
            .collect()
    }
    fn whole(&self) -> Whole {
        let mut verifier = Verifier::of(Chain::Ledger);
        for (_, path) in files_in(&self.dir()).unwrap() {
            let text = fs::read(path).unwrap();
            text.split_inclusive(|byte| *byte == b'\n').for_each(|line| verifier.take(line).unwrap());
        }
        verifier.end()
    }
}

#[test]
fn a_day_has_a_file_and_the_chain_goes_on_over_days_and_restarts() {
    let folder = Folder::new();
    let files = folder.open();
    assert_eq!(files.last(), Ok(0));
    assert!(!folder.dir().exists(), "reading makes nothing");
    let turn_of_the_day = [day(23, 1..=2), day(24, 3..=4)].concat();
    assert_eq!(files.append(&turn_of_the_day), Ok(4));
    let files = folder.open();
    assert_eq!((files.last(), files.append(&day(24, 3..=6))), (Ok(4), Ok(6)), "two of them are there already");
    assert_eq!(folder.lines(), [("2026-11-23".to_owned(), 2), ("2026-11-24".to_owned(), 4)]);
    let whole = folder.whole();
    assert_eq!((whole.first_no, whole.last_no, whole.from_the_start), (1, 6, true));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.dir()), mode(&folder.file(23))), (0o700, 0o600));
}

#[test]
fn a_clock_that_goes_back_goes_on_in_the_newest_file() {
    let folder = Folder::new();
    folder.open().append(&day(24, 1..=1)).unwrap();
    let files = folder.open();
    files
        .append(&[day(20, 2..=2), vec![entry(3, "1970-01-01T00:00:00Z")], day(25, 4..=4), day(24, 5..=5)].concat())
        .unwrap();
    assert_eq!(folder.lines(), [("2026-11-24".to_owned(), 3), ("2026-11-25".to_owned(), 2)]);
    assert_eq!(folder.whole().last_no, 5);
    let before_1970 = ArchivedEntry { ended_ms: i64::MIN, ..entry(6, "2026-11-25T00:00:00Z") };
    assert_eq!(files.append(&[before_1970]), Ok(6));
}

#[test]
fn a_torn_end_is_cut_off_and_comes_again_as_it_was() {
    let folder = Folder::new();
    folder.open().append(&day(23, 1..=5)).unwrap();
    let text = fs::read(folder.file(23)).unwrap();
    let ends: Vec<usize> = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for cut in [ends[3], ends[3] + 1, ends[4] - 1, ends[0] + 9, ends[0] - 1, 3, 0] {
        fs::write(folder.file(23), &text[..cut]).unwrap();
        let files = folder.open();
        let whole_lines = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(files.last(), Ok(whole_lines), "cut at {cut}");
        assert_eq!(files.append(&day(23, 1..=5)), Ok(5));
        assert_eq!(fs::read(folder.file(23)).unwrap(), text, "cut at {cut}");
    }
    // A file that grew before its data came.
    fs::write(folder.file(23), [&text[..ends[2]], &[0; 5_000]].concat()).unwrap();
    assert_eq!(folder.open().append(&day(23, 1..=5)), Ok(5));
    assert_eq!(fs::read(folder.file(23)).unwrap(), text);
}

#[test]
fn a_file_that_was_made_right_before_a_crash_is_gone_on_with() {
    let folder = Folder::new();
    folder.open().append(&day(23, 1..=2)).unwrap();
    for left_behind in ["", "{\"no\":3,"] {
        fs::write(folder.file(24), left_behind).unwrap();
        let files = folder.open();
        assert_eq!(files.last(), Ok(2));
        assert_eq!(files.append(&day(24, 3..=3)), Ok(3));
        assert_eq!(folder.whole().last_no, 3);
        fs::remove_file(folder.file(24)).unwrap();
    }
}

#[test]
fn damage_is_not_written_over_and_what_others_do_there_is_noticed() {
    let folder = Folder::new();
    let files = folder.open();
    files.append(&day(23, 1..=3)).unwrap();
    fs::write(folder.file(24), "").unwrap();
    // Only the newest file can have a torn end.
    let text = fs::read(folder.file(23)).unwrap();
    fs::write(folder.file(23), &text[..text.len() - 4]).unwrap();
    assert!(matches!(folder.open().last(), Err(ArchiveError::Damaged(words)) if words.contains("2026-11-23.jsonl")));
    assert_eq!(fs::read(folder.file(23)).unwrap(), text[..text.len() - 4]);
    fs::write(folder.file(23), &text).unwrap();
    fs::remove_file(folder.file(24)).unwrap();

    fs::write(folder.file(23), [&text[..], b"more\n"].concat()).unwrap();
    assert!(matches!(files.append(&day(23, 4..=4)), Err(ArchiveError::Damaged(_))));
    assert_eq!(files.append(&day(23, 4..=4)), Ok(4), "read again, it ends with something that is no line");
    assert_eq!(folder.whole().last_no, 4);
    fs::remove_dir_all(folder.dir()).unwrap();
    assert!(files.append(&day(23, 5..=5)).is_err());
    assert_eq!(files.append(&day(23, 5..=5)), Ok(5), "a new chain begins");
    assert_eq!((folder.whole().first_no, folder.whole().from_the_start), (5, true));
}

#[test]
fn files_are_kept_for_their_days_and_the_newest_for_ever() {
    let folder = Folder::new();
    let files = folder.open();
    for (number, at) in [(1, 1), (2, 2), (3, 3)] {
        files.append(&day(at, number..=number)).unwrap();
    }
    fs::write(folder.dir().join("notes.txt"), "an operator's").unwrap();
    let kept = |today: &str| {
        let removed = files.prune(today.parse().unwrap()).unwrap();
        (removed, folder.lines().len())
    };
    assert_eq!(kept("2026-12-01"), (0, 3), "thirty days after its own");
    assert_eq!(kept("2026-12-02"), (1, 2));
    let whole = folder.whole();
    assert_eq!((whole.first_no, whole.from_the_start), (2, false));
    assert_eq!(kept("2027-12-02"), (1, 1));
    assert_eq!(files.append(&day(4, 4..=4)), Ok(4));
    assert_eq!((folder.whole().first_no, folder.whole().last_no), (3, 4));
    assert!(folder.dir().join("notes.txt").exists());
    assert_eq!(folder.open().prune("0001-01-01".parse().unwrap()), Ok(0));
}

#[test]
fn a_disk_without_room_is_left_to_the_outbox() {
    let folder = Folder::new();
    let wants_all = ChainOptions { min_free_bytes: u64::MAX, ..OPTIONS };
    let files = ChainFiles::of(Chain::Ledger, folder.0.path(), wants_all);
    assert!(matches!(files.append(&day(23, 1..=1)), Err(ArchiveError::Full { wanted: u64::MAX, .. })));
    assert_eq!((files.last(), folder.lines()), (Ok(0), vec![]));
}

#[test]
fn only_days_written_as_we_write_them_are_files_of_the_ledger() {
    assert_eq!(day_of("2026-11-23.jsonl").map(name_of).as_deref(), Some("2026-11-23.jsonl"));
    for name in
        ["2026-11-23", "20261123.jsonl", "2026-11-31.jsonl", "x2026-11-23.jsonl", "2026-11-23.jsonl.gz", ".jsonl"]
    {
        assert_eq!(day_of(name), None, "{name}");
    }
}
