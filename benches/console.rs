//! How quickly console and admin API answer with a full outbox, while devices hand in. See the README beside this file.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{Samples, figure, gateway::Gateway, say};
use tidegate::lab::{HttpRequest, TorNetwork, TorNetworkOptions};

/// Messages that wait.
const QUEUED: u64 = 100_000;
/// How often each page is asked for.
const ROUNDS: usize = 60;
/// Between two messages that come in meanwhile.
const HAND_IN_EVERY: Duration = Duration::from_millis(20);
/// Its window is closed.
const DESTINATION: &str = "[destination.ward]\nonion = \"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80\"\n\
    format = \"raw\"\nwindows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }\n\
    limits = { messages = 200000, bytes = \"1GiB\" }\n";
/// What an operator opens. Counting by age reads all of the outbox, says so, and is not among them.
const PAGES: [&str; 12] = [
    "/console",
    "/console/outbox",
    "/console/outbox?state=queued&after=ward/99000",
    "/console/outbox/ward/50000",
    "/console/destinations",
    "/console/destinations/ward",
    "/console/ledger",
    "/console/quarantine",
    "/console/audit",
    "/console/actors",
    "/console/tor",
    "/console/privacy",
];
const API: [&str; 6] = [
    "/api/v1/status",
    "/api/v1/destinations",
    "/api/v1/outbox?limit=500",
    "/api/v1/outbox?limit=50&cursor=ward/99000",
    "/api/v1/outbox/ward/50000/explain",
    "/metrics",
];

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = TorNetwork::start(TorNetworkOptions::default()).expect("a network");
    let mut gateway = Gateway::start(folder.path(), &network, DESTINATION);
    gateway.hand_in_backlog(QUEUED, 10);
    let token = fs::read_to_string(gateway.state().join("admin.token")).expect("the token");
    let cookie = log_in(&gateway, token.trim());
    let page = |path: &str| HttpRequest::new("GET", gateway.admin().address(), path).header("cookie", &cookie);
    let api = |path: &str| HttpRequest::new("GET", gateway.admin().address(), path).bearer(token.trim());
    // What is made once.
    PAGES.iter().for_each(|path| drop(page(path).send_ok().expect("a page")));
    let before = gateway.resident_mib();

    let over = AtomicBool::new(false);
    let (mut pages, mut answers, mut each) = (Samples::default(), Samples::default(), BTreeMap::new());
    thread::scope(|scope| {
        let handed_in = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                gateway.hand_in("one more");
                count += 1;
                thread::sleep(HAND_IN_EVERY);
            }
            count
        });
        for _ in 0..ROUNDS {
            for path in PAGES {
                let took = timed(path, &page(path));
                pages.add(took);
                each.entry(path).or_insert_with(Samples::default).add(took);
            }
            for path in API {
                let took = timed(path, &api(path));
                answers.add(took);
                each.entry(path).or_insert_with(Samples::default).add(took);
            }
        }
        over.store(true, Ordering::Relaxed);
        say(&format!("{} messages came in meanwhile", handed_in.join().expect("they were handed in")));
    });
    for (path, samples) in &each {
        say(&format!("{path}: p50 {:.1} ms, p99 {:.1} ms", samples.quantile_ms(0.5), samples.quantile_ms(0.99)));
    }
    for (what, samples) in [("pages", &pages), ("API", &answers)] {
        let at = |share| samples.quantile_ms(share);
        say(&format!("{what}: {} answers, p50 {:.1} ms, p99 {:.1} ms", samples.len(), at(0.5), at(0.99)));
    }
    figure("console_page_p99", pages.quantile_ms(0.99), "ms");
    figure("admin_api_p99", answers.quantile_ms(0.99), "ms");
    figure("console_rss", gateway.resident_mib() - before, "MiB");
    gateway.stop();
}

/// The session's cookie.
fn log_in(gateway: &Gateway, token: &str) -> String {
    let form = format!("token={token}");
    let request = HttpRequest::new("POST", gateway.admin().address(), "/console/login");
    let answer = request.body("application/x-www-form-urlencoded", form).send().expect("an answer");
    let cookie = answer.header("set-cookie").expect("a cookie");
    cookie.split(';').next().expect("its value").to_owned()
}

fn timed(path: &str, request: &HttpRequest) -> Duration {
    let began = Instant::now();
    let answer = request.send_ok().unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(!answer.body.is_empty(), "{path}");
    began.elapsed()
}
