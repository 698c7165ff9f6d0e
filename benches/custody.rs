//! What custody costs where there is much of it: a million messages that wait, and a day's traffic that comes and goes. See the README
//! beside this file.
//!
//! The real Outbox on the real store (sled), without the gateway around it. Each part is this program started again, with its role in the
//! environment, so that the memory is that of the work alone.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;
#[path = "custody/work.rs"]
mod work;

use std::{
    env,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use support::{figure, from_env, print, say};
use tidegate::{
    adapters::disk_store::{DiskOptions, DiskStore},
    cli::arena,
};
use tidegate_actors::{ports::outbox_store::OutboxStore as _, testing::sim_clock::SimClock};
use tidegate_schemas::wire::BATCH_EVENTS_MAX;
use work::{Custody, DESTINATIONS, memory_mib};

/// Messages that wait; `MILLION_MESSAGES` is another number, for trying it out.
const MILLION: u64 = 1_000_000;
/// The small outbox that the large one is compared with, and what a turn delivers of both: a request's worth of each of ten
/// destinations.
const TURN_DESTINATIONS: u64 = 10;
const TURN_EACH: usize = BATCH_EVENTS_MAX;
const TURNS: usize = 31;
/// Messages of the day, twenty a second; they take a quarter of an hour. `DAY_MESSAGES` is another number.
const DAY_MESSAGES: u64 = 20 * DAY_S;
const DAY_S: u64 = 86_400;
/// They come so many at a time.
const STEP_MESSAGES: u64 = 20;
/// How often memory and disk are looked at in the day.
const LOOKS: u64 = 200;
/// Where a part finds its role, and its folder.
const ROLE: &str = "TIDEGATE_BENCH_ROLE";
const FOLDER: &str = "TIDEGATE_BENCH_FOLDER";
const MIB: f64 = 1024.0 * 1024.0;

fn million() -> u64 {
    from_env("MILLION_MESSAGES").unwrap_or(MILLION)
}

fn day_messages() -> u64 {
    from_env("DAY_MESSAGES").unwrap_or(DAY_MESSAGES)
}

/// Starts this program in a role; the numbers that it prints.
fn part(role: &str, folder: &Path) -> Vec<f64> {
    let program = env::current_exe().expect("this program");
    // As a gateway has it.
    let mut part = Command::new(program);
    part.env(ROLE, role).env(FOLDER, folder).env(arena::VARIABLE, arena::ARENAS);
    let done = part.output().expect("this program");
    assert!(done.status.success(), "{role}: {}", String::from_utf8_lossy(&done.stderr));
    eprint_all(&done.stderr);
    String::from_utf8_lossy(&done.stdout).split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

fn eprint_all(said: &[u8]) {
    let said = String::from_utf8_lossy(said);
    said.lines().for_each(say);
}

fn numbers(values: &[f64]) {
    print(&values.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
}

/// A part: what it does, and prints.
async fn play(role: &str, folder: &Path) {
    match role {
        "empty" => {}
        "fill" => fill(folder).await,
        "open" => open(folder).await,
        "compare" => compare(folder).await,
        "drain" => drain(folder).await,
        "drained" => drained(folder).await,
        "compacted" => compacted(folder),
        "day" => return day(folder).await,
        other => panic!("no role: {other}"),
    }
    if role == "empty" {
        numbers(&[memory_mib("VmRSS")]);
    }
}

/// Makes the outbox, and ends it in order.
async fn fill(folder: &Path) {
    let custody = Custody::open(folder);
    let began = Instant::now();
    custody.hand_in(0..million()).await;
    let seen = custody.seen().await;
    assert_eq!((seen.account.queued, seen.gap), (million(), 0));
    say(&format!("{} messages taken in {:.0} s", million(), began.elapsed().as_secs_f64()));
    let bytes = seen.waiting_bytes;
    custody.close().await;
    numbers(&[bytes as f64 / MIB]);
}

/// From nothing to the answer to the first pick: seconds, and resident memory after it.
async fn open(folder: &Path) {
    let began = Instant::now();
    let custody = Custody::open(folder);
    // Before the store is read a pick finds nothing, as it does in the gateway.
    let picked = loop {
        let picked = custody.first_pick().await;
        if !picked.is_empty() && custody.seen().await.account.queued > 0 {
            break picked;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let took = began.elapsed().as_secs_f64();
    assert!(!picked.is_empty());
    drop(picked);
    numbers(&[took, memory_mib("VmRSS")]);
    custody.close().await;
}

/// Turn by turn, a thousand out of the large outbox, and all of the small one's thousand: messages a second.
async fn compare(folder: &Path) {
    let (large, small) = (Custody::open(folder), Custody::open(&folder.join("small")));
    let mut rates = Vec::new();
    for turn in 0..TURNS as u64 {
        let destinations = || (0..TURN_DESTINATIONS).map(move |n| (turn * TURN_DESTINATIONS + n) % DESTINATIONS);
        let numbers = (0..TURN_EACH as u64).flat_map(|n| destinations().map(move |number| n * DESTINATIONS + number));
        small.hand_in(numbers).await;
        let rate = async |custody: &Custody| {
            let began = Instant::now();
            let delivered = custody.deliver(destinations(), TURN_EACH).await;
            assert_eq!(delivered, TURN_DESTINATIONS * TURN_EACH as u64);
            delivered as f64 / began.elapsed().as_secs_f64()
        };
        // Who goes first changes.
        let (of_large, of_small) = if turn % 2 == 0 {
            (rate(&large).await, rate(&small).await)
        } else {
            let of_small = rate(&small).await;
            (rate(&large).await, of_small)
        };
        assert_eq!(small.seen().await.account.queued, 0);
        rates.extend([of_large, of_small]);
    }
    large.close().await;
    small.close().await;
    numbers(&rates);
}

/// Delivers everything: messages a second, the most resident memory that it took, and the disk after it.
async fn drain(folder: &Path) {
    let custody = Custody::open(folder);
    let began = Instant::now();
    while custody.seen().await.account.queued == 0 {
        // It is being read.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let tenth = usize::try_from(million() / DESTINATIONS / 10).expect("few");
    let mut resident = Vec::new();
    for _ in 0..10 {
        custody.deliver(0..DESTINATIONS, tenth).await;
        resident.push(format!("{:.0}", memory_mib("VmRSS")));
    }
    custody.deliver(0..DESTINATIONS, usize::MAX).await;
    say(&format!("resident after each tenth, in MiB: {}", resident.join(", ")));
    let took = began.elapsed().as_secs_f64();
    let seen = custody.seen().await;
    assert_eq!((seen.account.delivered, seen.account.queued, seen.gap), (million(), 0, 0));
    let disk = custody.disk_bytes();
    say(&format!("drained in {took:.0} s; {:.1} MiB of disk before its orderly end", disk as f64 / MIB));
    let peak = memory_mib("VmHWM");
    custody.close().await;
    numbers(&[million() as f64 / took, peak]);
}

/// The disk that a drained outbox takes after its orderly end, in MiB.
async fn drained(folder: &Path) {
    let custody = Custody::open(folder);
    let disk = custody.disk_bytes();
    custody.close().await;
    numbers(&[disk as f64 / MIB]);
}

/// A day's traffic in virtual time, twenty messages at a time: memory and disk in its first half and in its second, the largest of a hundred
/// looks each, in MiB. The store's files rise and fall many times in each half, so that no figure hangs on where in such a wave a look fell.
async fn day(folder: &Path) {
    tokio::time::pause();
    let clock = Arc::new(SimClock::at("2026-11-23T00:00:00Z".parse().expect("a time")));
    let custody = Custody::open_by(folder, clock);
    let steps = day_messages() / STEP_MESSAGES;
    let step_lasts = Duration::from_secs(DAY_S).div_f64(steps as f64);
    let (began, mut looks) = (Instant::now(), Vec::new());
    let look_every = (steps / LOOKS).max(1);
    for step in 0..steps {
        let range = step * STEP_MESSAGES..(step + 1) * STEP_MESSAGES;
        custody.hand_in(range.clone()).await;
        let delivered = custody.deliver(range.map(|number| number % DESTINATIONS), usize::MAX).await;
        assert_eq!(delivered, STEP_MESSAGES);
        tokio::time::advance(step_lasts).await;
        if (step + 1) % look_every == 0 {
            looks.push((memory_mib("VmRSS"), custody.disk_bytes() as f64 / MIB));
        }
    }
    let (seen, total) = (custody.seen().await, steps * STEP_MESSAGES);
    assert_eq!((seen.account.delivered, seen.account.queued, seen.gap), (total, 0, 0));
    say(&format!("{total} messages of a day in {:.0} s; {} commits", began.elapsed().as_secs_f64(), seen.commits));
    let most = |looks: &[(f64, f64)]| {
        looks.iter().fold((0.0_f64, 0.0_f64), |most, look| (most.0.max(look.0), most.1.max(look.1)))
    };
    let (first, second) = looks.split_at(looks.len() / 2);
    let (early, late) = (most(first), most(second));
    for look in looks.iter().step_by((looks.len() / 10).max(1)) {
        say(&format!("resident {:.1} MiB, disk {:.1} MiB", look.0, look.1));
    }
    custody.close().await;
    numbers(&[early.0, early.1, late.0, late.1]);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn folder_of_the_build() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// A million messages that wait.
fn measure_million(empty: f64) {
    let (folder, copy) = (folder_of_the_build(), folder_of_the_build());
    let bodies = part("fill", folder.path())[0];
    say(&format!("{bodies:.0} MiB of bodies wait; an empty process has {empty:.1} MiB"));
    let [seconds, resident] = part("open", folder.path())[..] else { panic!("two numbers") };
    figure("million_open", seconds, "s");
    figure("million_rss", resident - empty, "MiB");

    let copied = Command::new("cp").arg("-r").arg(folder.path().join("outbox")).arg(copy.path()).status();
    assert!(copied.expect("cp").success(), "the outbox was not copied");
    let rates = part("compare", copy.path());
    let ratios = rates.chunks(2).map(|turn| turn[0] / turn[1]).collect();
    let side = |at: usize| median(rates.iter().skip(at).step_by(2).copied().collect());
    say(&format!("with a million waiting {:.0} a second, with a thousand {:.0}", side(0), side(1)));
    figure("million_drain", median(ratios), "ratio");
    drop(copy);

    let [rate, peak] = part("drain", folder.path())[..] else { panic!("two numbers") };
    say(&format!("{rate:.0} delivered a second over all of it"));
    figure("million_rss_peak", peak - empty, "MiB");
    figure("million_drained_disk", part("drained", folder.path())[0], "MiB");
    figure("million_compacted", part("compacted", folder.path())[0], "MiB");
}

/// What is left of it once it is written anew: it holds the ledger's 20,000 end states, and nothing else.
fn compacted(folder: &Path) {
    let store = DiskStore::open(&folder.join("outbox"), DiskOptions::default()).expect("the outbox opens");
    store.compact(&mut |_| {}).expect("it is written anew");
    numbers(&[store.disk_bytes() as f64 / MIB]);
}

fn measure_day() {
    let folder = folder_of_the_build();
    let [early_memory, early_disk, memory, disk] = part("day", folder.path())[..] else { panic!("four numbers") };
    say(&format!("resident {early_memory:.1}, then {memory:.1} MiB; disk {early_disk:.1}, then {disk:.1} MiB"));
    figure("day_rss_growth", memory / early_memory, "ratio");
    figure("day_disk_growth", disk / early_disk, "ratio");
}

fn main() {
    if let Ok(role) = env::var(ROLE) {
        let folder = env::var_os(FOLDER).expect("a folder");
        return actix::System::new().block_on(play(&role, Path::new(&folder)));
    }
    let nowhere = folder_of_the_build();
    measure_million(part("empty", nowhere.path())[0]);
    measure_day();
}
