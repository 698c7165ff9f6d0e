//! Places of problems: in the text, in the environment, at the nearest thing that is there.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::config::check::Occasion;
use proptest::prelude::*;
use std::{io, path::Path};

const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

fn nothing(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn check(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<Located>> {
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let around = Surroundings {
        base_dir: Path::new("/etc/tidegate"),
        state_dir: Path::new("/state"),
        occasion: Occasion::New,
        now: "2026-11-23T12:00:00Z".parse().unwrap(),
        mqtt_tls: false,
        read_file: &nothing,
        read_registry: &nothing,
    };
    ConfigText::parse(text, &environment)?.check(&around)
}

/// Line, column (from 1) and the marked text of each problem.
fn marks(text: &str, located: &[Located]) -> Vec<(usize, usize, String)> {
    located
        .iter()
        .map(|located| match &located.place {
            Place::Text(_, span) => {
                let before = &text[..span.start];
                let line = before.matches('\n').count() + 1;
                let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
                (line, column, text[span.clone()].to_owned())
            }
            Place::Environment(name) => (0, 0, name.clone()),
            Place::Nowhere => (0, 0, String::new()),
        })
        .collect()
}

#[test]
fn problems_of_all_kinds_point_at_their_values() {
    let text = format!(
        "[mqtt]\nhots = \"a\"\nport = 0\n\n[destination.cardiology]\nonion = \"{}\"\nwindows.timezone = \"Europe/Madird\"\nwindows.allow = [{{ days = \"daily\" }}, {{ cron = \"0 25 * * *\", for = \"20m\" }}]\n\n[destination.empty]\nlanes = 2\n\n[[route]]\ntopic = \"a/#\"\n\n[[route]]\ntopic = \"b/#\"\ndevice = \"d\"\ndestination = \"cardiolgy\"\n",
        ONION.replacen('g', "h", 1)
    );
    let located = check(&text, &[]).unwrap_err();
    let at: Vec<_> = marks(&text, &located);
    let expected = [
        (2, 1, "hots"),
        (3, 8, "0"),
        (6, 9, ""),
        (7, 20, "\"Europe/Madird\""),
        (8, 47, "\"0 25 * * *\""),
        (10, 14, "empty"),
        (13, 1, ""),
        (13, 1, ""),
        (19, 15, "\"cardiolgy\""),
    ];
    assert_eq!(at.len(), expected.len(), "{at:?}\n{located:#?}");
    for ((line, column, marked), (l, c, m)) in at.iter().zip(expected) {
        assert_eq!((*line, *column), (l, c), "{marked}");
        assert!(m.is_empty() || marked == m, "{marked}");
    }
    assert_eq!(located[0].problem.hint, "did you mean \"host\"?");
    assert_eq!(located[8].problem.hint, "did you mean \"cardiology\"?");
}

#[test]
fn syntax_errors_come_with_their_places() {
    let text = "[mqtt]\nhost = \nport = 1883\n[http\n";
    let located = ConfigText::parse(text, &[]).unwrap_err();
    let lines: Vec<usize> = marks(text, &located).iter().map(|mark| mark.0).collect();
    assert_eq!(lines, [2, 4], "{located:?}");
}

#[test]
fn a_value_of_the_wrong_type_is_marked() {
    let text = "[mqtt]\nport = \"many\"\n";
    let located = check(text, &[]).unwrap_err();
    assert_eq!(marks(text, &located), [(2, 8, "\"many\"".to_owned())]);
    assert_eq!(located[0].problem.message, "invalid type: string \"many\", expected a number from 0 to 65535");
}

#[test]
fn the_environment_replaces_adds_and_is_named_when_it_is_wrong() {
    let text = format!("[mqtt]\nport = 1883\n[destination.my-clinic]\nonion = \"{ONION}\"\n");
    let config = check(
        &text,
        &[
            ("TIDEGATE__MQTT__PORT", "1884"),
            ("TIDEGATE__MQTT__HOST", "10.0.0.5"),
            ("TIDEGATE__DESTINATION__MY_CLINIC__LANES", "4"),
            ("TIDEGATE__ADMIN__HOSTS", "[\"gate.lan\"]"),
            ("TIDEGATE_CONFIG", "not ours"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    let mqtt = config.mqtt.unwrap();
    assert_eq!((mqtt.port, mqtt.host.as_str()), (1884, "10.0.0.5"));
    assert_eq!(config.destinations[0].agreement.lanes, 4);
    assert_eq!(config.admin.hosts, ["gate.lan"]);

    let located = check(&text, &[("TIDEGATE__MQTT__PORT", "many")]).unwrap_err();
    assert_eq!(located[0].place, Place::Environment("TIDEGATE__MQTT__PORT".to_owned()));
    let located =
        check(&text, &[("TIDEGATE__DESTINATION__MY_CLINIC__LANES", "99"), ("TIDEGATE__MQTT__HOTS", "a")]).unwrap_err();
    let names: Vec<_> = marks(&text, &located).into_iter().map(|mark| mark.2).collect();
    assert_eq!(names, ["TIDEGATE__MQTT__HOTS", "TIDEGATE__DESTINATION__MY_CLINIC__LANES"]);
    for nowhere in ["TIDEGATE__", "TIDEGATE____X", "TIDEGATE__MQTT__PORT__X"] {
        let located = check(&text, &[(nowhere, "1")]).unwrap_err();
        assert_eq!(located[0].place, Place::Environment(nowhere.to_owned()));
    }
}

#[test]
fn files_of_conf_d_bring_destinations_and_routes_and_are_told_at_their_own_lines() {
    let around = Surroundings {
        base_dir: Path::new("/etc/tidegate"),
        state_dir: Path::new("/state"),
        occasion: Occasion::New,
        now: "2026-11-23T12:00:00Z".parse().unwrap(),
        mqtt_tls: false,
        read_file: &nothing,
        read_registry: &nothing,
    };
    let main = format!(
        "[[route]]\ntopic = \"a/{{device}}\"\ndestination = \"ward\"\n[destination.lab]\nonion = \"{ONION}\"\n"
    );
    let ward = format!(
        "# the ward\n\n[destination.ward]\nonion = \"{ONION}\"\n[[route]]\ntopic = \"{{destination}}/{{device}}\"\n"
    );
    let files =
        |ward| [SourceText { name: "tidegate.toml", text: &main }, SourceText { name: "conf.d/ward.toml", text: ward }];
    let environment = [("TIDEGATE__DESTINATION__WARD__LANES", "4"), ("TIDEGATE__DESTINATION__HOME__ONION", ONION)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = ConfigText::parse_files(&files(&ward), &environment).unwrap().check(&around).unwrap();
    assert_eq!(config.routes.0.len(), 2);
    assert_eq!((config.routes.0[0].allow.as_ref().unwrap().len(), &config.routes.0[1].allow), (1, &None));
    let sources: Vec<String> = config.declarations.values().map(|declared| declared.source.to_string()).collect();
    assert_eq!(
        sources,
        ["TIDEGATE__DESTINATION__HOME__ONION in the environment", "tidegate.toml:4", "conf.d/ward.toml:3"]
    );
    assert_eq!(
        config
            .declared()
            .destinations
            .iter()
            .find(|d| d.destination.id.as_str() == "ward")
            .unwrap()
            .destination
            .agreement
            .lanes,
        4
    );

    let wrong = ward.replace("# the ward", "# é").replace(&ONION[..1], "x").replace("{device}", "{devise}");
    let located = ConfigText::parse_files(&files(&wrong), &[]).unwrap().check(&around).unwrap_err();
    let at: Vec<(usize, usize)> = located
        .iter()
        .map(|located| {
            let Place::Text(file, span) = &located.place else { panic!("{located:?}") };
            (*file, files(&wrong)[*file].text[..span.start].matches('\n').count() + 1)
        })
        .collect();
    assert_eq!(at, [(1, 4), (1, 6)], "{located:?}");
}

#[test]
fn thousands_of_destinations_know_their_files_and_lines() {
    let around = Surroundings {
        base_dir: Path::new("/etc/tidegate"),
        state_dir: Path::new("/state"),
        occasion: Occasion::New,
        now: "2026-11-23T12:00:00Z".parse().unwrap(),
        mqtt_tls: false,
        read_file: &nothing,
        read_registry: &nothing,
    };
    let count = 1_500;
    // Those of the second file have names that come before the first one's.
    let text = |prefix: &str| -> String {
        (0..count).map(|n| format!("[destination.{prefix}-{n}]\nonion = \"{ONION}\"\n")).collect()
    };
    let (first, second) = (text("z"), text("a"));
    let files = [SourceText { name: "z.toml", text: &first }, SourceText { name: "a.toml", text: &second }];
    let config = ConfigText::parse_files(&files, &[]).unwrap().check(&around).unwrap();
    assert_eq!(config.declarations.len(), 2 * count);
    for n in 0..count {
        for prefix in ["a", "z"] {
            let declared = &config.declarations[&format!("{prefix}-{n}").parse().unwrap()];
            assert_eq!(declared.source.to_string(), format!("{prefix}.toml:{}", 2 * n + 1));
        }
    }
}

proptest! {
    #[test]
    fn no_text_and_no_environment_panics(text in "[\\[\\]a-z=.\"\n {}0-9é]{0,60}", name in "[A-Z_]{0,12}", value in ".{0,12}") {
        let _ = check(&text, &[(&format!("TIDEGATE__{name}"), &value)]);
    }

    #[test]
    fn a_path_is_never_located_off_a_line(path in "[a-z\\[\\]0-9.]{0,30}") {
        let text = "[[route]]\ntopic = \"é\"\n[a.b]\nc = [[1, 2], { d = 3 }]\n";
        let parsed = ConfigText::parse(text, &[]).unwrap();
        if let Place::Text(_, span) = parsed.locate(Problem::new(path, "", "")).place {
            prop_assert!(!text[span].contains('\n'));
        }
    }
}
