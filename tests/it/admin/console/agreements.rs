//! Agreements changed on pages: what is shown before, what is refused beside its field, and who is told of whom.

use super::{Session, judge, log_in};
use crate::{
    admin::{
        agreements::{House, house, onion},
        scopes,
    },
    http_support::{self as support, Answer},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const WARD: &str = "/console/destinations/ward";

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn decode(text: &str) -> String {
    let named = [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
    named.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What a browser sends of the form with this button, as far as tests need it: the fields by their names.
fn fields(page: &Answer) -> BTreeMap<String, String> {
    let form = page.body.split("<form class=\"questions\"").nth(1).unwrap().split("</form>").next().unwrap();
    let value = |tag: &str, key: &str| {
        let rest = tag.split(&format!("{key}=\"")).nth(1)?;
        Some(decode(rest.split('"').next()?))
    };
    let mut fields = BTreeMap::new();
    for tag in form.split('<').skip(1) {
        let Some(name) = value(tag, "name").filter(|name| name != "csrf") else { continue };
        let text = if tag.starts_with("textarea") {
            // The first line break of the element is none of its text.
            decode(tag.split_once(">\n").map_or("", |(_, text)| text)).replace('\n', "\r\n")
        } else if tag.starts_with("select") {
            let rest = form.split(tag).nth(1).unwrap().split("</select>").next().unwrap();
            let chosen = rest.split("<option").skip(1).find(|option| option.contains(" selected"));
            chosen
                .or_else(|| rest.split("<option").nth(1))
                .and_then(|option| value(option, "value"))
                .unwrap_or_default()
        } else {
            value(tag, "value").unwrap_or_default()
        };
        fields.insert(name, text);
    }
    fields
}

impl Session {
    async fn send(&self, house: &House, path: &str, fields: &BTreeMap<String, String>) -> Answer {
        let form: String = fields.iter().map(|(name, value)| format!("&{name}={}", encode(value))).collect();
        self.post(&house.world, path, &form).await
    }
}

async fn begin() -> (House, Session) {
    let house = house().await;
    let session = log_in(&house.world, &house.world.token).await;
    (house, session)
}

fn set(fields: &mut BTreeMap<String, String>, name: &str, value: &str) {
    assert!(fields.insert(name.to_owned(), value.to_owned()).is_some(), "there is no field {name}");
}

#[actix::test]
async fn a_change_is_previewed_with_what_it_means_and_saved_by_its_version() {
    let (house, session) = begin().await;
    let agreed = json!({ "lanes": 2, "windows": { "timezone": "Europe/Madrid" }, "signal": { "accept": true } });
    house.make("cardiology", agreed).await;
    let path = "/console/destinations/cardiology";
    let page = session.get(&house.world, &format!("{path}/edit")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    judge(path, &page);
    let mut form = fields(&page);
    assert_eq!((form["version"].as_str(), form["lanes"].as_str(), form["onion"].as_str()), ("1", "2", ""));
    assert!(!page.body.contains(&onion()[..16]));
    set(&mut form, "lanes", "3");
    set(&mut form, "allow", "mon-fri 22:00-02:00\r\nsat,sun # weekends");
    let preview = session.send(&house, &format!("{path}/preview"), &form).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    judge(path, &preview);
    for said in [
        "It would become version 2",
        "lanes",
        "mon-fri 22:00-02:00; sat,sun 00:00-24:00 # weekends",
        "always open",
        // 22:00 in Madrid.
        "2027-01-04 21:00 UTC",
        "until 2027-01-05 01:00 UTC",
        &format!("{} messages wait for it", support::ENTRIES),
        ">Save</button>",
    ] {
        assert!(preview.body.contains(said), "{said}:\n{}", preview.body);
    }
    assert_eq!(house.version("cardiology").await, 1, "a preview changes nothing");
    // From the preview back: the form is as it was sent.
    let again = session.send(&house, &format!("{path}/edit"), &fields(&preview)).await;
    let (mut again, form) = (fields(&again), fields(&preview));
    let lines = again["allow"].replace('\r', "");
    set(&mut again, "allow", &lines);
    assert_eq!(
        (&again["lanes"], &again["allow"], &again["version"]),
        (&form["lanes"], &form["allow"], &"1".to_owned())
    );
    let saved = session.send(&house, &format!("{path}/save"), &form).await;
    assert_eq!((saved.status, saved.header("location")), (303, Some("/console/destinations/cardiology?done=saved")));
    let now = house.world.get("/api/v1/destinations/cardiology/agreement").await.json();
    let expected = json!({
        "format": "cloudevents", "lanes": 3, "receiver_memory": "30d", "signal": { "accept": true },
        "windows": {
            "timezone": "Europe/Madrid",
            "allow": [
                { "days": "mon-fri", "from": "22:00", "to": "02:00" }, { "days": "sat,sun", "note": "weekends" },
            ],
        },
    });
    assert_eq!(now, expected, "what has no field is kept");
    assert_eq!(house.world.get("/api/v1/destinations/cardiology").await.json()["now"]["open"], false);
    // On record by the name of the token, and in the history.
    let acts = scopes::audited(&house.world);
    let saves: Vec<_> =
        acts.iter().filter(|line| line.target.as_deref() == Some("cardiology") && line.detail.is_none()).collect();
    assert!(saves.iter().any(|line| line.act == "destination.put" && line.who == "admin"), "{acts:?}");
    house.world.stop().await;
}

#[actix::test]
async fn what_would_end_before_the_next_opening_is_told_before_it_is_saved() {
    let (house, session) = begin().await;
    house.make("cardiology", json!({})).await;
    let path = "/console/destinations/cardiology";
    let mut form = fields(&session.get(&house.world, &format!("{path}/edit")).await);
    set(&mut form, "allow", "21:00-12:00\n20:59-21:00");
    set(&mut form, "lifetime", "max_age");
    set(&mut form, "life", "9h");
    let preview = session.send(&house, &format!("{path}/preview"), &form).await;
    let said = format!("{} waiting messages expire before the next opening", support::ENTRIES);
    assert!(preview.status == 200 && preview.body.contains(&said), "{}", preview.body);
    house.world.stop().await;
}

#[actix::test]
async fn each_mistake_stands_beside_its_field_and_what_was_typed_is_kept_and_escaped() {
    let (house, session) = begin().await;
    house.make("ward", json!({})).await;
    let mut form = fields(&session.get(&house.world, &format!("{WARD}/edit")).await);
    let hostile = "\"><script>alert(1)</script>";
    set(&mut form, "timezone", hostile);
    set(&mut form, "allow", &format!("mon-fri 22:00-02:00\n{hostile} 25:00-26:00"));
    set(&mut form, "lanes", "99");
    set(&mut form, "life", hostile);
    set(&mut form, "lifetime", "max_age");
    for act in ["preview", "save"] {
        let answer = session.send(&house, &format!("{WARD}/{act}"), &form).await;
        assert_eq!(answer.status, 422, "{}", answer.body);
        judge(act, &answer);
        for name in ["timezone", "allow", "lanes", "life"] {
            let field = answer.body.split(&format!("name=\"{name}\"")).nth(1).unwrap().split("</div>").next().unwrap();
            assert!(field.contains(&format!("aria-describedby=\"{name}-error")), "{name}: {field}");
            assert!(
                field.contains("aria-invalid=\"true\"") && field.contains(&format!("id=\"{name}-error\"")),
                "{field}"
            );
        }
        assert!(answer.body.contains("rule 2: ") && !answer.body.contains("id=\"steps-error\""), "{}", answer.body);
        assert_eq!(fields(&answer)["timezone"], hostile);
        assert!(!answer.body.contains("<script"));
    }
    // What is no number is told before the gateway is asked.
    set(&mut form, "lanes", "many");
    let answer = session.send(&house, &format!("{WARD}/preview"), &form).await;
    assert!(answer.status == 422 && answer.body.contains("a whole number, not"), "{}", answer.body);
    assert_eq!(house.version("ward").await, 1);
    house.world.stop().await;
}

#[actix::test]
async fn a_change_of_an_older_version_shows_both_and_changes_nothing() {
    let (house, session) = begin().await;
    house.make("ward", json!({ "lanes": 2, "order": "none" })).await;
    let mut form = fields(&session.get(&house.world, &format!("{WARD}/edit")).await);
    set(&mut form, "lanes", "3");
    let preview = session.send(&house, &format!("{WARD}/preview"), &form).await;
    // Somebody else saves in between.
    let other = json!({ "onion": onion(), "lanes": 5, "order": "none", "receiver_memory": "30d" });
    assert_eq!(house.ask("PUT", "/api/v1/destinations/ward", ("if-match", "\"1\""), &other).await.status, 200);
    for act in ["save", "preview"] {
        let conflict = session.send(&house, &format!("{WARD}/{act}"), &fields(&preview)).await;
        assert_eq!(conflict.status, 412, "{}", conflict.body);
        judge(act, &conflict);
        for said in [
            "It is at version 2 now; yours was made of version 1",
            "data-name=\"Agreed now\"><bdi>5<",
            "data-name=\"Yours\"><bdi>3<",
        ] {
            assert!(conflict.body.contains(said), "{said}:\n{}", conflict.body);
        }
        assert_eq!(house.version("ward").await, 2);
    }
    // Knowing of it, one may go on.
    let conflict = session.send(&house, &format!("{WARD}/save"), &fields(&preview)).await;
    let anew = session.send(&house, &format!("{WARD}/preview"), &fields(&conflict)).await;
    assert!(anew.status == 200 && anew.body.contains("It would become version 3"), "{}", anew.body);
    assert_eq!(session.send(&house, &format!("{WARD}/save"), &fields(&anew)).await.status, 303);
    assert_eq!(house.world.get("/api/v1/destinations/ward/agreement").await.json()["lanes"], 3);
    // One that went is told as such; and a form without its version changes nothing.
    form.remove("version");
    assert_eq!(session.send(&house, &format!("{WARD}/save"), &form).await.status, 400);
    assert_eq!(house.world.ask("DELETE", "/api/v1/destinations/ward", "").await.status, 200);
    assert_eq!(session.send(&house, &format!("{WARD}/save"), &fields(&anew)).await.status, 404);
    house.world.stop().await;
}

#[actix::test]
async fn a_destination_is_added_its_windows_taken_away_and_it_is_removed() {
    let (house, session) = begin().await;
    let page = session.get(&house.world, "/console/add-destination").await;
    judge("add", &page);
    let mut form = fields(&page);
    let none = session.send(&house, "/console/add-destination", &form).await;
    assert_eq!(none.status, 422);
    assert!(none.body.contains("id=\"name-error\""), "{}", none.body);
    set(&mut form, "name", "ward");
    let none = session.send(&house, "/console/add-destination", &form).await;
    assert!(none.status == 422 && none.body.contains("id=\"onion-error\""), "{}", none.body);
    set(&mut form, "onion", &onion());
    set(&mut form, "allow", "daily 06:00-07:00");
    let preview = session.send(&house, "/console/add-destination", &form).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    judge("add", &preview);
    assert!(preview.body.contains("ward would be added") && preview.body.contains("2027-01-05 06:00 UTC"));
    let again = session.send(&house, "/console/add-destination?again", &fields(&preview)).await;
    assert_eq!((fields(&again)["name"].as_str(), fields(&again)["allow"].trim()), ("ward", "daily 06:00-07:00"));
    let saved = session.send(&house, &format!("{WARD}/save"), &fields(&preview)).await;
    assert_eq!(saved.status, 303, "{}", saved.body);
    assert_eq!(house.version("ward").await, 1);
    // A second one of the name is none.
    let twice = session.send(&house, &format!("{WARD}/save"), &fields(&preview)).await;
    assert!(twice.status == 422 && twice.body.contains("there is a destination ward already"), "{}", twice.body);
    let page = session.get(&house.world, WARD).await;
    assert!(!page.body.contains(&onion()[..16]), "{}", page.body);

    let reset = session.get(&house.world, &format!("{WARD}/windows")).await;
    judge("windows", &reset);
    assert!(reset.body.contains("windows.allow") && reset.body.contains("always open"), "{}", reset.body);
    let stale = BTreeMap::from([("version".to_owned(), "7".to_owned())]);
    assert_eq!(session.send(&house, &format!("{WARD}/windows"), &stale).await.status, 412);
    assert_eq!(session.send(&house, &format!("{WARD}/windows"), &fields(&reset)).await.status, 303);
    assert_eq!(house.world.get("/api/v1/destinations/ward").await.json()["now"]["why"], "no_windows");

    let asked = session.get(&house.world, &format!("{WARD}/remove")).await;
    judge("remove", &asked);
    assert!(asked.body.contains("None waits for it"), "{}", asked.body);
    assert_eq!(session.send(&house, &format!("{WARD}/remove"), &stale).await.status, 412);
    let gone = session.send(&house, &format!("{WARD}/remove"), &fields(&asked)).await;
    assert_eq!((gone.status, gone.header("location")), (303, Some("/console/destinations?done=removed")));
    house.world.get("/api/v1/destinations/ward").await.is_problem(404, "not-found");
    house.world.stop().await;
}

#[actix::test]
async fn the_fate_of_what_waits_is_asked_before_a_destination_goes() {
    let (house, session) = begin().await;
    house.make("cardiology", json!({})).await;
    let path = "/console/destinations/cardiology/remove";
    let asked = session.get(&house.world, path).await;
    let mut form = fields(&asked);
    assert_eq!(form["queued"], "hold");
    assert!(asked.body.contains(&format!("{} messages wait for it", support::ENTRIES)), "{}", asked.body);
    set(&mut form, "queued", "");
    let refused = session.send(&house, path, &form).await;
    assert!(refused.status == 409 && refused.body.contains("say queued=hold"), "{}", refused.body);
    set(&mut form, "queued", "hold");
    assert_eq!(session.send(&house, path, &form).await.status, 303);
    assert!(house.world.record.lock().unwrap().operated.is_empty(), "nothing is purged");
    house.world.stop().await;
}

#[actix::test]
async fn a_destination_of_a_file_is_shown_with_its_place_and_changed_by_no_form() {
    let (house, session) = begin().await;
    let path = "/console/destinations/lab";
    let page = session.get(&house.world, &format!("{path}/edit")).await;
    judge(path, &page);
    assert!(page.status == 200 && page.body.contains("declared in tidegate.toml:1: change it there"), "{}", page.body);
    assert!(!page.body.contains("class=\"questions\"") && page.body.contains(">lanes<"), "{}", page.body);
    for act in ["preview", "save", "edit"] {
        let answer = session.post(&house.world, &format!("{path}/{act}"), "&version=1&lanes=7").await;
        assert!(answer.status == 409 && answer.body.contains("tidegate.toml:1"), "{act}: {}", answer.body);
    }
    for act in ["remove", "windows"] {
        assert_eq!(session.get(&house.world, &format!("{path}/{act}")).await.status, 409);
        assert_eq!(session.post(&house.world, &format!("{path}/{act}"), "&version=1").await.status, 409);
    }
    assert_eq!(house.version("lab").await, Value::from(1));
    let shown = session.get(&house.world, path).await;
    assert!(
        shown.body.contains("/console/destinations/lab/edit") && !shown.body.contains("/lab/remove"),
        "{}",
        shown.body
    );
    house.world.stop().await;
}
