//! The pages, as a browser without JavaScript sees them.

use super::harness::{Running, connect, entry, folder, log_in, pressure, send, send_over, start};
use std::collections::BTreeSet;
use tidegate_schemas::wire::WireFormat;

/// Texts that would run, load or mislead if a page took them as they are.
const HOSTILE: [&str; 5] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</td><svg onload=alert(1)>",
    "{{ 7*7 }}&lt;b&gt;",
    "abc\u{202e}gpj.exe\u{1b}[31m",
];

async fn page(running: &Running, place: &str, cookie: &str) -> String {
    let answer = send(running.address, "GET", place, &[("cookie", cookie)], "").await;
    assert_eq!(answer.status, 200, "{place}");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    is_closed_to_the_world(&answer);
    answer.text()
}

fn is_closed_to_the_world(answer: &super::harness::Answer) {
    let policy = answer.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// The values of an attribute in a page, with `&amp;` resolved.
fn attributes(html: &str, name: &str) -> BTreeSet<String> {
    let pattern = format!(" {name}=\"");
    let values = html.split(&pattern).skip(1).map(|rest| rest.split('"').next().unwrap());
    values.map(|value| value.replace("&amp;", "&").replace("&#38;", "&")).collect()
}

fn needs_nothing_and_runs_nothing(html: &str, place: &str) {
    for bad in [
        "<svg",
        "<style",
        " style=\"",
        "<script>",
        "<iframe",
        "<img src=x",
        "http://",
        "https://",
        "\u{202e}",
        "\u{1b}",
    ] {
        assert!(!html.contains(bad), "{place} contains {bad:?}");
    }
    for script in html.split("<script").skip(1) {
        assert!(
            script.starts_with(" src=\"/assets/live.js?v=") && script.contains("\" defer></script>"),
            "{place}: inline script"
        );
    }
    for link in attributes(html, "href").union(&attributes(html, "src")) {
        assert!(link.starts_with('/') || link.starts_with('#'), "{place} leads to {link}");
    }
}

#[tokio::test]
async fn hostile_readings_are_text_and_nothing_else() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    for (number, text) in (1..).zip(HOSTILE) {
        let reading = entry(number, Some(text), "text/html", text);
        assert_eq!(receiver.deliver(&[reading], WireFormat::CloudeventsBatch).await.status, 201);
    }
    let key = format!("Bearer {}", receiver.write_key());
    for text in HOSTILE {
        let body = serde_json::json!({ "id_device": text, "data": text }).to_string();
        assert_eq!(send(receiver.address, "PUT", "/", &[("authorization", &key)], body).await.status, 201);
    }
    let cookie = log_in(&receiver).await;
    for place in
        ["/", "/devices", "/devices/1", "/devices/2", "/readings/1", "/readings/2", "/readings/5", "/readings/10"]
    {
        let html = page(&receiver, place, &cookie).await;
        needs_nothing_and_runs_nothing(&html, place);
        assert!(html.contains("Cardiology &#60;ward&#62;"), "the title is escaped too");
    }
    let html = page(&receiver, "/readings/1", &cookie).await;
    assert!(html.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
    let saved = send(receiver.address, "GET", "/readings/1/body", &[("cookie", &cookie)], "").await;
    assert_eq!(saved.text(), HOSTILE[0]);
    assert_eq!(saved.header("content-type"), Some("application/octet-stream"));
    assert!(saved.header("content-disposition").unwrap().starts_with("attachment"));
    is_closed_to_the_world(&saved);
    receiver.stop().await;
}

#[tokio::test]
async fn readings_are_shown_newest_first_and_per_device_with_a_chart() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let cookie = log_in(&receiver).await;
    assert!(page(&receiver, "/", &cookie).await.contains("No reading has come yet"));
    for number in 1..=120 {
        receiver.clock.step(10);
        let bpm = entry(10_000 + number, Some("bpm"), "text/plain", format!("{} bpm", 60 + number % 9));
        receiver.deliver(&[pressure(number), bpm], WireFormat::CloudeventsBatch).await;
    }
    receiver.deliver(&[entry(99_999, None, "application/octet-stream", vec![0xff; 2_000])], WireFormat::Raw).await;

    let home = page(&receiver, "/", &cookie).await;
    assert!(home.contains("241 readings from 2 devices"));
    assert!(home.contains("2 KiB of binary data"));
    let sequences: Vec<u64> = attributes(&home, "data-seq").iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!((sequences.len(), sequences.iter().max()), (50, Some(&241)));
    let first = home.split("data-seq=\"").nth(1).unwrap();
    assert!(first.starts_with("241\""), "newest first");

    let device = page(&receiver, "/devices/1", &cookie).await;
    let pictures = attributes(&device, "src");
    let charts: Vec<_> = pictures.iter().filter(|place| place.contains("chart.png")).collect();
    assert_eq!(charts.len(), 2, "one for each measure");
    assert!(device.contains("<meter "));
    for chart in charts {
        let [light, dark] = [chart.clone(), format!("{chart}&theme=dark")];
        let light = send(receiver.address, "GET", &light, &[("cookie", &cookie)], "").await;
        let dark = send(receiver.address, "GET", &dark, &[("cookie", &cookie)], "").await;
        assert_eq!((light.status, light.header("content-type")), (200, Some("image/png")));
        assert!(light.body.starts_with(b"\x89PNG") && light.body != dark.body);
    }

    // Every page is reached by links, each of them leads somewhere, and all readings are found on the way.
    let (mut seen, mut next) = (BTreeSet::new(), vec!["/".to_owned()]);
    let mut readings = BTreeSet::new();
    let mut connection = connect(receiver.address).await;
    while let Some(place) = next.pop() {
        let reading = place.starts_with("/readings/");
        if place.starts_with('#') || (reading && seen.len() > 60) || !seen.insert(place.clone()) {
            continue;
        }
        let answer = send_over(&mut connection, "GET", &place, &[("cookie", &cookie)], "").await;
        assert_eq!(answer.status, 200, "{place}");
        if answer.header("content-type") == Some("text/html; charset=utf-8") {
            let html = answer.text();
            needs_nothing_and_runs_nothing(&html, &place);
            readings.extend(attributes(&html, "data-seq"));
            next.extend(attributes(&html, "href"));
            next.extend(attributes(&html, "src"));
        }
    }
    assert_eq!(readings.len(), 241);
    receiver.stop().await;
}

#[tokio::test]
async fn a_page_loads_itself_again_without_script_unless_it_is_paused() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    receiver.deliver(&[pressure(1)], WireFormat::Cloudevents).await;
    let cookie = log_in(&receiver).await;
    for place in ["/", "/devices", "/devices/1"] {
        let live = page(&receiver, place, &cookie).await;
        assert!(live.contains("<noscript><meta http-equiv=\"refresh\""), "{place}");
        assert!(live.contains(&format!("href=\"{place}?live=off\"")));
        let paused = page(&receiver, &format!("{place}?live=off"), &cookie).await;
        assert!(!paused.contains("http-equiv=\"refresh\"") && !paused.contains("<script"), "{place}");
    }
    for place in ["/readings/1", "/?before=2"] {
        assert!(!page(&receiver, place, &cookie).await.contains("http-equiv=\"refresh\""), "{place}");
    }
    receiver.stop().await;
}

#[tokio::test]
async fn logging_in_and_out_works_as_a_browser_does_it() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    let asked = send(receiver.address, "GET", "/devices?live=off", &[], "").await;
    assert_eq!((asked.status, asked.header("www-authenticate")), (401, None), "a page, not a browser's window");
    assert!(asked.text().contains("name=\"next\" value=\"/devices?live=off\""));
    is_closed_to_the_world(&asked);
    needs_nothing_and_runs_nothing(&asked.text(), "log-in");

    let wrong = send(receiver.address, "POST", "/login", &[], "password=wrong&next=%2Fdevices").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(wrong.text().contains("That is not the password"));

    let form = format!("password={}&next=%2Fdevices", receiver.password().to_uppercase());
    let right = send(receiver.address, "POST", "/login", &[], form).await;
    assert_eq!((right.status, right.header("location")), (303, Some("/devices")));
    let cookie = right.header("set-cookie").unwrap().to_owned();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    let away = format!("password={}&next=%2F%2Fevil.example%2F", receiver.password());
    let away = send(receiver.address, "POST", "/login", &[], away).await;
    assert_eq!(away.header("location"), Some("/"));

    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(send(receiver.address, "GET", "/", &[("cookie", cookie)], "").await.status, 200);
    let out = send(receiver.address, "POST", "/logout", &[("cookie", cookie)], "").await;
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(send(receiver.address, "GET", "/", &[("cookie", cookie)], "").await.status, 401);
    let long = format!("password={}", "x".repeat(10_000));
    assert_eq!(send(receiver.address, "POST", "/login", &[], long).await.status, 401);
    receiver.stop().await;
}

#[tokio::test]
async fn programs_get_json_page_by_page() {
    let (_guard, path) = folder();
    let receiver = start(&path).await;
    for number in 1..=7 {
        receiver.deliver(&[pressure(number)], WireFormat::Cloudevents).await;
    }
    let get =
        async |place: &str| send(receiver.address, "GET", place, &[("authorization", &receiver.basic())], "").await;
    let first = get("/v1/readings?device=pacemaker&limit=3").await.json();
    assert_eq!((first["readings"].as_array().unwrap().len(), first["next_after"].as_u64()), (3, Some(3)));
    let rest = get("/v1/readings?device=pacemaker&after=3").await.json();
    assert_eq!(rest["readings"].as_array().unwrap().len(), 4);
    assert_eq!(rest["readings"][0]["text"], "114.00 mmHg");
    assert_eq!(get("/v1/readings?device=nobody").await.status, 404);
    assert_eq!(get("/v1/devices").await.json()[0]["readings"], 7);
    let challenge = send(receiver.address, "GET", "/v1/readings", &[], "").await;
    assert_eq!((challenge.status, challenge.header("www-authenticate")), (401, Some("Basic realm=\"readings\"")));
    receiver.stop().await;
}
