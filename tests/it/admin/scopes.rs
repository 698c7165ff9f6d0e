//! What a token's scope allows, and what the audit log has of it.

use super::{World, example, start};
use crate::http_support::{Answer, send};
use std::{fs, time::Duration};
use tidegate::{adapters::chain_files::newest_lines, admin};
use tidegate_schemas::{
    audit::{AuditEntry, Scope},
    config::{
        devices::hash_secret,
        tokens::{NamedToken, TOKENS_FILE, Tokens},
    },
};
use tokio::time::Instant;

/// Writes a token of each scope into the state folder, named by the scope; their texts, once the endpoint knows them.
pub(super) async fn tokens(world: &World) -> Vec<(Scope, String)> {
    let mut tokens = Tokens::default();
    let mut texts = Vec::new();
    for (fill, scope) in (b'a'..).zip(Scope::ALL) {
        let text = data_encoding::BASE64URL_NOPAD.encode(&[fill; 32]);
        let token_sha256 = hash_secret(&text).unwrap();
        tokens.put(NamedToken { name: format!("the-{scope}").parse().unwrap(), scope, token_sha256 });
        texts.push((scope, text));
    }
    fs::write(world.state.path().join(TOKENS_FILE), tokens.to_text()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(world, &texts[0].1, "GET", "/api/v1/status").await.status != 200 {
        assert!(Instant::now() < deadline, "the file of tokens is not read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    texts
}

async fn ask(world: &World, token: &str, method: &str, path: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    send(world.address, method, path, &[("authorization", authorization.as_str())], "").await
}

pub(super) fn audited(world: &World) -> Vec<AuditEntry> {
    let mut lines: Vec<AuditEntry> = newest_lines(&world.state.path().join("audit"), None, 1_000).unwrap();
    lines.reverse();
    lines
}

#[actix::test]
async fn on_every_route_a_token_is_let_in_by_its_scope_alone_and_what_it_tried_is_on_record() {
    let world = start().await;
    let tokens = tokens(&world).await;
    let (mut refused, mut tried) = (0, Vec::new());
    for ((method, pattern), needed) in admin::route_list().into_iter().zip(admin::scope_list()) {
        let path = example(pattern);
        if admin::is_public(&path) {
            continue;
        }
        for (scope, token) in tokens.iter().filter(|(scope, _)| *scope < needed) {
            let before = audited(&world).len();
            let answer = ask(&world, token, &method, &path).await;
            answer.is_problem(403, "scope");
            assert!(answer.body.contains(needed.name()) && answer.body.contains(scope.name()), "{}", answer.body);
            refused += 1;
            let after = audited(&world).split_off(before);
            // Long work that changes nothing is no act.
            if let [begun, ended] = &after[..] {
                assert_eq!((&begun.who, begun.status, ended.of), (&format!("the-{scope}"), None, Some(begun.no)));
                assert_eq!(ended.status, Some(403));
                tried.push(begun.act.clone());
            } else {
                assert!(after.is_empty() && path.ends_with("/check"), "{method} {path}: {after:?}");
            }
        }
    }
    assert_eq!(refused, 2 * 6 + 8, "routes for admin, and for operators");
    assert!(world.record.lock().unwrap().operated.is_empty());
    tried.dedup();
    assert_eq!(tried.len(), 13, "{tried:?}");
    // Each is let in where its scope is enough, a method that only looks included.
    for (scope, token) in &tokens {
        assert_eq!(ask(&world, token, "GET", "/api/v1/status").await.status, 200);
        let held = ask(&world, token, "POST", "/api/v1/outbox/cardiology/1/hold").await.status;
        assert_eq!(held, if *scope < Scope::Operate { 403 } else { 200 });
        let removed = ask(&world, token, "DELETE", "/api/v1/destinations/cardiology?dry_run=true").await.status;
        assert_eq!(removed, if *scope < Scope::Admin { 403 } else { 200 });
    }
    world.stop().await;
}

#[actix::test]
async fn who_did_what_and_how_it_ended_is_in_the_audit_log_before_the_answer() {
    let world = start().await;
    let tokens = tokens(&world).await;
    let path = "/api/v1/outbox/cardiology/7/purge";
    assert_eq!(ask(&world, &tokens[1].1, "POST", path).await.status, 200);
    world.ask("POST", "/api/v1/outbox/cardiology/9000/hold", "").await.is_problem(404, "not-found");
    world.ask("DELETE", "/api/v1/destinations/lab?queued=purge", "").await.is_problem(409, "declared");
    let seen: Vec<_> = audited(&world)
        .into_iter()
        .map(|line| (line.no, line.who, line.act, line.target.unwrap_or_default(), line.detail, line.of, line.status))
        .collect();
    let line = |no: u64, who: &str, act: &str, target: &str, detail: Option<&str>, of, status| {
        (no, who.to_owned(), act.to_owned(), target.to_owned(), detail.map(str::to_owned), of, status)
    };
    assert_eq!(
        seen,
        [
            line(1, "the-operate", "entry.purge", "cardiology/7", None, None, None),
            line(2, "the-operate", "entry.purge", "", None, Some(1), Some(200)),
            line(3, "admin", "entry.hold", "cardiology/9000", None, None, None),
            line(4, "admin", "entry.hold", "", None, Some(3), Some(404)),
            line(5, "admin", "destination.remove", "lab", Some("queued=purge"), None, None),
            line(6, "admin", "destination.remove", "", None, Some(5), Some(409)),
        ]
    );
    // Whoever may look sees it, newest first, in pages.
    let page = ask(&world, &tokens[0].1, "GET", "/api/v1/audit?limit=4").await.json();
    assert_eq!((&page["items"][0]["no"], &page["items"][3]["no"]), (&6.into(), &3.into()));
    let next = page["next"].as_str().unwrap();
    let rest = world.get(&format!("/api/v1/audit?limit=4&cursor={next}")).await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (2, &serde_json::Value::Null));
    world.stop().await;
}

#[actix::test]
async fn what_cannot_be_put_on_record_is_not_done() {
    let world = start().await;
    fs::write(world.state.path().join("audit"), "in the way").unwrap();
    world.ask("POST", "/api/v1/outbox/cardiology/7/purge", "").await.is_problem(503, "audit");
    assert!(world.record.lock().unwrap().operated.is_empty());
    let status = world.get("/api/v1/status").await;
    assert_eq!((status.status, &status.json()["audit_failures"]), (200, &1.into()));
    assert!(world.get("/metrics").await.body.contains("tidegate_audit_failures_total 1"));
    fs::remove_file(world.state.path().join("audit")).unwrap();
    assert_eq!(world.ask("POST", "/api/v1/outbox/cardiology/7/purge", "").await.status, 200);
    world.stop().await;
}
