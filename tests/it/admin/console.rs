//! The console from outside: who gets in, what its forms do, and what its pages are made of.

mod agreements;

use super::{World, example, scopes, start, start_with};
use crate::http_support::{self as support, Answer, send};
use std::{fs, time::Duration};
use tidegate::admin;
use tidegate_schemas::{
    audit::Scope,
    config::tokens::{TOKENS_FILE, Tokens},
    entry::Event,
    route::Routes,
};
use tokio::time::Instant;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; \
     base-uri 'none'";

/// Somebody who is logged in.
struct Session {
    cookie: String,
    csrf: String,
}

async fn send_token(world: &World, token: &str) -> Answer {
    send(world.address, "POST", "/console/login", &[FORM], format!("token={token}")).await
}

async fn log_in(world: &World, token: &str) -> Session {
    let answer = send_token(world, token).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console")), "{}", answer.body);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let page = send(world.address, "GET", "/console", &[("cookie", &cookie)], "").await;
    let csrf = page.body.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(csrf.len(), 43);
    Session { cookie, csrf }
}

impl Session {
    async fn get(&self, world: &World, path: &str) -> Answer {
        send(world.address, "GET", path, &[("cookie", &self.cookie)], "").await
    }
    async fn post(&self, world: &World, path: &str, more: &str) -> Answer {
        let form = format!("csrf={}{more}", self.csrf);
        send(world.address, "POST", path, &[("cookie", &self.cookie), FORM], form).await
    }
}

/// That nothing was done.
fn is_untouched(world: &World) -> bool {
    let record = world.record.lock().unwrap();
    record.operated.is_empty() && record.signalled.is_empty() && !record.paused
}

/// What no page may have, and what each must.
fn judge(path: &str, answer: &Answer) {
    let html = &answer.body;
    assert_eq!(answer.header("content-security-policy"), Some(POLICY), "{path}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    for bad in ["<svg", "<script", "<style", "<iframe", " style=", "javascript:", "http://", "https://", "src=\"//"] {
        assert!(!html.to_ascii_lowercase().contains(bad), "{path} has {bad}:\n{html}");
    }
    let tags = html.split('<').map(|tag| tag.split('>').next().unwrap());
    for tag in tags {
        let handler = tag.split_whitespace().skip(1).find(|part| part.starts_with("on") && part.contains('='));
        assert_eq!(handler, None, "{path}: <{tag}>");
    }
    for one in ["<html lang=\"en\">", "<title>", "<h1>", "<main id=\"main\"", "href=\"#main\"", "name=\"viewport\""] {
        assert_eq!(html.matches(one).count(), 1, "{path}: {one}");
    }
    assert_eq!(html.matches("<table").count(), html.matches("<caption>").count(), "{path}");
    for table in html.split("<table").skip(1) {
        let table = table.split("</table>").next().unwrap();
        assert!(!table.replace("<thead", "").contains("<th>"), "{path}: a heading without its scope");
        assert!(table.contains("<th scope=\"col\"") && table.contains("<th scope=\"row\""), "{path}");
    }
    for form in html.split("<form").skip(1) {
        let form = form.split("</form>").next().unwrap();
        let guarded = form.contains("name=\"csrf\"") || form.contains("action=\"/console/login\"");
        assert!(guarded || form.contains("method=\"get\""), "{path}: {form}");
        for field in form.split("<input").skip(1).filter(|field| !field.contains("type=\"hidden\"")) {
            let before = &form[..form.find(field).unwrap()];
            let labelled = before.matches("<label").count() > before.matches("</label>").count();
            assert!(
                labelled || before.contains("<label for=\"token\"") && field.contains("id=\"token\""),
                "{path}: {field}"
            );
        }
    }
}

#[actix::test]
async fn every_page_is_there_whole_and_has_nothing_inline_or_from_elsewhere() {
    let world = start().await;
    let windows = r#"{"timezone":"Europe/Madrid","allow":[{"days":"mon-fri","from":"22:00","to":"02:00"}]}"#;
    assert_eq!(world.ask("PUT", "/api/v1/destinations/cardiology/windows", windows).await.status, 200);
    let session = log_in(&world, &world.token).await;
    let mut seen = 0;
    for (method, pattern, _) in admin::console_list() {
        let path = example(pattern);
        if method != "GET" || path == "/console/login" || path.ends_with(".png") {
            continue;
        }
        let answer = session.get(&world, &path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        if path.starts_with("/console/assets/") {
            assert!(!answer.body.contains("http") && !answer.body.contains("@import") && !answer.body.contains("url("));
            continue;
        }
        judge(&path, &answer);
        let named = answer.body.contains("aria-current=\"page\"");
        assert!(named || path.contains("/ages"), "{path} is not in the navigation");
        seen += 1;
    }
    assert_eq!(seen, 19);
    for (path, words) in [
        ("/console", "Every part runs."),
        ("/console/outbox?destination=cardiology&state=queued", "Beginning"),
        ("/console/outbox/cardiology/1", "Why it is where it is"),
        ("/console/outbox/cardiology/1/purge", "does not erase the medium"),
        ("/console/destinations/cardiology", "Hours in which it is open, in Europe/Madrid"),
        ("/console/destinations/cardiology", "Mon 2027-01-04 22:00"),
        ("/console/ages", "Up to a week"),
        ("/console/privacy", "onion services alone"),
    ] {
        let path = path.replace("&state", "&cursor=cardiology/50&state");
        let answer = session.get(&world, &path).await;
        assert!(answer.status == 200 && answer.body.contains(words), "{path}: {words}\n{}", answer.body);
    }
    // What came from outside is text.
    let answer = session.get(&world, "/console/quarantine").await;
    assert!(answer.body.contains("alert(1)") && !answer.body.contains("<script"));
    // Filters and cursors are kept from page to page, and wrong ones are told on a page.
    let answer = session.get(&world, "/console/outbox?state=queued&device=").await;
    let next = answer.body.split("href=\"/console/outbox?state=queued&#38;cursor=").nth(1);
    assert!(next.is_some_and(|rest| rest.starts_with("cardiology%2F50\"")), "{}", answer.body);
    for (path, status) in [
        ("/console/outbox?state=lost", 400),
        ("/console/ledger?cursor=x", 400),
        ("/console/outbox/cardiology/1/deliver", 404),
        ("/console/outbox/cardiology/999", 404),
        ("/console/destinations/nowhere", 404),
        ("/console/nowhere", 404),
    ] {
        let answer = session.get(&world, path).await;
        assert_eq!(answer.status, status, "{path}");
        judge(path, &answer);
    }
    world.stop().await;
}

#[actix::test]
async fn nobody_gets_past_the_consoles_guard_on_any_route_by_any_of_the_tricks() {
    let world = start().await;
    let (own, reader) = (log_in(&world, &world.token).await, scopes::tokens(&world).await.remove(0));
    let reader = log_in(&world, &reader.1).await;
    let right = format!("Bearer {}", world.token);
    let (form, forged) = (format!("csrf={}", own.csrf), format!("csrf={}", reader.csrf));
    let cut = &own.cookie[..own.cookie.len() - 1];
    let routes = admin::console_list();
    let mut tried = 0;
    for (method, pattern, scope) in &routes {
        let path = &example(pattern);
        let public = admin::is_public_page(path);
        let elsewhere = [
            ("a rebound name", ("host", "evil.example")),
            ("a foreign origin", ("origin", "http://evil.example")),
            ("a sandboxed origin", ("origin", "null")),
            ("cross-site", ("sec-fetch-site", "cross-site")),
        ];
        for (trick, header) in elsewhere {
            let headers = [("cookie", own.cookie.as_str()), FORM, header];
            let answer = send(world.address, method, path, &headers, form.clone()).await;
            assert_eq!(answer.status, 403, "{trick}: {method} {path}");
            tried += 1;
        }
        if public {
            continue;
        }
        let nobody: [(&str, Vec<(&str, &str)>); 3] = [
            ("no session", vec![FORM]),
            ("the token as a bearer", vec![("authorization", &right), FORM]),
            ("a cookie that is nobody's", vec![("cookie", cut), FORM]),
        ];
        for (trick, headers) in nobody {
            let answer = send(world.address, method, path, &headers, form.clone()).await;
            let to_login = answer.header("location").is_some_and(|place| place.starts_with("/console/login"));
            assert!(
                answer.status == 403 || method == "GET" && answer.status == 303 && to_login,
                "{trick}: {method} {path}"
            );
            tried += 1;
        }
        if method == "POST" {
            let session = ("cookie", own.cookie.as_str());
            let json = ("content-type", "application/json");
            for (trick, kind, body, status) in [
                ("no CSRF token", FORM, "", 403),
                ("another session's", FORM, forged.as_str(), 403),
                ("an empty one", FORM, "csrf=", 403),
                ("JSON", json, form.as_str(), 415),
            ] {
                let answer = send(world.address, method, path, &[session, kind], body.to_owned()).await;
                assert_eq!(answer.status, status, "{trick}: {path}");
                judge(path, &answer);
                tried += 1;
            }
        }
        if *scope > Scope::Read {
            let refused =
                if method == "GET" { reader.get(&world, path).await } else { reader.post(&world, path, "").await };
            assert_eq!(refused.status, 403, "{method} {path}");
            assert!(refused.body.contains("this needs a token of scope"), "{}", refused.body);
            tried += 1;
        }
        assert!(is_untouched(&world), "{method} {path}");
    }
    assert_eq!((routes.len(), tried), (34, 284));
    // Each act that the reader tried is on record, and none was done.
    let lines = scopes::audited(&world);
    assert!(lines.iter().all(|line| line.who == "the-read" && line.status.is_none_or(|status| status == 403)));
    let mut acts: Vec<&str> = lines.iter().map(|line| line.act.as_str()).collect();
    acts.dedup();
    assert_eq!(
        acts,
        ["entry.hold", "signal", "pause", "resume", "destination.put", "destination.remove", "windows.reset"]
    );
    // A reader is not offered what is refused.
    let page = reader.get(&world, "/console/outbox/cardiology/1").await;
    assert!(page.status == 200 && !page.body.contains("/hold\""), "{}", page.body);
    // The API takes no cookie and no form.
    let cookie = ("cookie", own.cookie.as_str());
    assert_eq!(send(world.address, "GET", "/api/v1/status", &[cookie], "").await.status, 401);
    let hold = "/api/v1/outbox/cardiology/1/hold";
    assert_eq!(send(world.address, "POST", hold, &[cookie, FORM], form.clone()).await.status, 401);
    let both = [cookie, FORM, ("authorization", right.as_str())];
    assert_eq!(send(world.address, "POST", hold, &both, form.clone()).await.status, 415);
    assert!(is_untouched(&world));
    world.stop().await;
}

#[actix::test]
async fn forms_act_as_the_api_does_and_are_on_record_with_the_tokens_name() {
    let world = start().await;
    let tokens = scopes::tokens(&world).await;
    let session = log_in(&world, &tokens[1].1).await;
    let page = session.get(&world, "/console/outbox/cardiology/1").await;
    assert!(page.body.contains("/console/outbox/cardiology/1/hold\"") && !page.body.contains("/release\""));
    let answer = session.post(&world, "/console/outbox/cardiology/1/hold", "").await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console/outbox/cardiology/1?done=hold")));
    let page = session.get(&world, "/console/outbox/cardiology/1?done=hold").await;
    assert!(page.body.contains("role=\"status\">Held"), "{}", page.body);
    let answer = session.post(&world, "/console/outbox/cardiology/2/purge", "").await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console/outbox?done=purge")));
    // What an entry's state does not let be done is told.
    let answer = session.post(&world, "/console/outbox/cardiology/3/release", "").await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    let answer = session.post(&world, "/console/destinations/cardiology/pause", "").await;
    assert_eq!((answer.status, world.record.lock().unwrap().paused), (303, true));
    let page = session.get(&world, "/console/destinations/cardiology?done=pause").await;
    assert!(page.body.contains(">Resume</button>") && page.body.contains("paused"), "{}", page.body);
    assert_eq!(session.post(&world, "/console/destinations/cardiology/resume", "").await.status, 303);
    let signal = "/console/destinations/cardiology/signal";
    assert_eq!(session.post(&world, signal, "&word=ready&for=10m").await.status, 303);
    let answer = session.post(&world, signal, "&word=ready&for=never").await;
    assert!(answer.status == 422 && answer.body.contains("write it as"), "{}", answer.body);
    let record = {
        let record = world.record.lock().unwrap();
        let events: Vec<Event> = record.operated.iter().map(|it| it.event).collect();
        (events, record.signalled.len(), record.paused)
    };
    assert_eq!(record, (vec![Event::Hold, Event::Purge, Event::Release], 1, false));
    let lines = scopes::audited(&world);
    assert!(lines.iter().all(|line| line.who == "the-operate"));
    let ends: Vec<(&str, Option<u16>)> =
        lines.iter().filter(|line| line.of.is_some()).map(|line| (line.act.as_str(), line.status)).collect();
    let expected = [
        ("entry.hold", Some(303)),
        ("entry.purge", Some(303)),
        ("entry.release", Some(409)),
        ("pause", Some(303)),
        ("resume", Some(303)),
        ("signal", Some(303)),
        ("signal", Some(422)),
    ];
    assert_eq!(ends, expected);
    assert_eq!(lines[0].target.as_deref(), Some("cardiology/1"));
    let page = session.get(&world, "/console/audit").await;
    assert!(page.body.contains("entry.purge") && page.body.contains("not done: 409"), "{}", page.body);
    world.stop().await;
}

#[actix::test]
async fn a_session_begins_with_a_token_and_ends_by_log_out_or_with_its_token() {
    let world = start().await;
    let login = send(world.address, "GET", "/console/login?next=/console/outbox", &[], "").await;
    assert_eq!(login.status, 200);
    judge("/console/login", &login);
    assert!(login.body.contains("name=\"next\" value=\"/console/outbox\""), "{}", login.body);
    let answer = send_token(&world, &world.token).await;
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    for (next, place) in
        [("/console/ledger", "/console/ledger"), ("//evil", "/console"), ("/api/v1/status", "/console")]
    {
        let form = format!("token={}&next={next}", world.token);
        let answer = send(world.address, "POST", "/console/login", &[FORM], form).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(place)), "{next}");
    }
    // Logged out.
    let session = log_in(&world, &world.token).await;
    let answer = session.post(&world, "/console/logout", "").await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console/login")));
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(session.get(&world, "/console").await.status, 303);
    // Its token taken away.
    let tokens = scopes::tokens(&world).await;
    let session = log_in(&world, &tokens[0].1).await;
    fs::write(world.state.path().join(TOKENS_FILE), Tokens::default().to_text()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while session.get(&world, "/console").await.status == 200 {
        assert!(Instant::now() < deadline, "the session outlives its token");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.stop().await;
}

#[actix::test]
async fn wrong_tokens_count_with_those_of_the_api_and_the_right_one_passes_all_the_same() {
    let world = start().await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        let answer = send_token(&world, "wrong").await;
        judge("/console/login", &answer);
        statuses.push(answer.status);
    }
    assert!(statuses[0] == 401 && statuses[6] == 429, "{statuses:?}");
    let bearer = [("authorization", "Bearer wrong")];
    assert_eq!(send(world.address, "GET", "/api/v1/status", &bearer, "").await.status, 429);
    log_in(&world, &world.token).await;
    world.stop().await;
}

#[actix::test]
async fn the_overview_is_there_when_parts_of_the_gateway_are_not() {
    let world = start_with(Some(support::registry(Routes::default())), false).await;
    let session = log_in(&world, &world.token).await;
    let page = session.get(&world, "/console").await;
    assert!(page.status == 200 && page.body.contains("outbox does not run (restarting)"), "{}", page.body);
    let page = session.get(&world, "/console/outbox").await;
    assert_eq!(page.status, 503);
    judge("/console/outbox", &page);
    world.stop().await;
}
