//! The checks of a whole config. Each refusal is asked for by its path, and the reason is read.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::{agreement::Success, config::source::ConfigText, route::IdSource};
use std::collections::BTreeMap;

const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";
const OTHER: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion";
/// A point of the curve: the public key of RFC 8032, section 7.1, test 1.
const RECEIPT_KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

#[derive(Default)]
struct Files(BTreeMap<&'static str, String>);

impl Files {
    fn with(path: &'static str, text: &str) -> Self {
        Self([(path, text.to_owned())].into())
    }

    fn check(&self, text: &str) -> Result<Config, Vec<(String, String)>> {
        let read = |path: &Path| -> io::Result<String> {
            path.to_str().and_then(|path| self.0.get(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let around = Surroundings {
            base_dir: Path::new("/etc/tidegate"),
            state_dir: Path::new("/state"),
            occasion: Occasion::New,
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
            mqtt_tls: false,
            read_file: &read,
            read_registry: &read,
        };
        ConfigText::parse(text, &[])
            .and_then(|parsed| parsed.check(&around))
            .map_err(|located| located.into_iter().map(|l| (l.problem.path, l.problem.message)).collect())
    }

    /// The reason why the value at `path` is refused, which must be the only problem.
    fn refusal(&self, text: &str, path: &str) -> String {
        match self.check(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(problems) => {
                assert_eq!(problems.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(), [path], "{problems:?}");
                problems[0].1.clone()
            }
        }
    }
}

/// No file is there.
fn around() -> Surroundings<'static> {
    Surroundings {
        base_dir: Path::new("/etc/tidegate"),
        state_dir: Path::new("/state"),
        occasion: Occasion::New,
        now: "2026-11-23T12:00:00Z".parse().unwrap(),
        mqtt_tls: false,
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        read_registry: &|_| Err(io::ErrorKind::NotFound.into()),
    }
}
fn accepted(text: &str) -> Config {
    Files::default().check(text).unwrap()
}
fn refusal(text: &str, path: &str) -> String {
    Files::default().refusal(text, path)
}
fn warned(config: &Config, path: &str) -> bool {
    config.warnings.iter().any(|warning| warning.path == path)
}

#[test]
fn an_empty_file_is_the_defaults_and_says_that_nothing_goes_anywhere() {
    let config = accepted("");
    let mqtt = config.mqtt.as_ref().unwrap();
    assert_eq!(mqtt.connect().to_string(), "127.0.0.1:1883");
    assert_eq!(config.http.as_ref().unwrap().listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8088");
    assert_eq!((config.tor.transport.clone(), config.tor.vanguards), (TorTransport::Arti, Vanguards::Lite));
    assert_eq!(config.outbox.cache_bytes, 8 * 1024 * 1024);
    assert_eq!((config.outbox.ledger_entries_max, config.outbox.quarantine_entries_max), (20_000, 1_000));
    assert_eq!(config.state_dir, Path::new("/state"));
    assert!(warned(&config, "destination") && warned(&config, "route"));
}

#[test]
fn a_destination_gets_its_keys_from_their_files() {
    let mut files = Files::with("/etc/tidegate/key", "swordfish-swordfish\n");
    files.0.insert("/etc/tidegate/auth", format!("{}:descriptor:x25519:{}\n", &ONION[..56], "A".repeat(52)));
    let text = format!(
        "[destination.a]\nonion = \"http://{ONION}/\"\nwrite_key = {{ file = \"key\" }}\nclient_auth = {{ file = \"auth\" }}\nreceipt_key = \"{RECEIPT_KEY}\"\n"
    );
    let config = files.check(&text).unwrap();
    let destination = &config.destinations[0];
    assert_eq!(destination.keys.write_key.as_deref(), Some("swordfish-swordfish"));
    assert_eq!(destination.keys.client_auth, Some([0; 32]));
    assert!(destination.keys.receipt_key.is_some());
    assert_eq!(destination.agreement.success, Success::Receipt);

    // Another service's key, nonsense, a file that is not there, a key that is none.
    files.0.insert("/etc/tidegate/auth", format!("{}:descriptor:x25519:{}", &OTHER[..56], "A".repeat(52)));
    assert!(files.refusal(&text, "destination.a.client_auth.file").contains("another onion address"));
    files.0.insert("/etc/tidegate/auth", "descriptor:x448:AAAA".to_owned());
    assert!(files.refusal(&text, "destination.a.client_auth.file").contains("holds no key"));
    files.0.insert("/etc/tidegate/auth", "A".repeat(52));
    files.0.remove("/etc/tidegate/key");
    assert!(files.refusal(&text, "destination.a.write_key.file").contains("/etc/tidegate/key could not be read"));
    let wrong = format!("[destination.a]\nonion = \"{ONION}\"\nreceipt_key = \"AAAA\"\n");
    assert!(refusal(&wrong, "destination.a.receipt_key").contains("ed25519"));
}

#[test]
fn routes_may_lead_to_destinations_that_were_made_through_the_api() {
    let text = "[[route]]\ntopic = \"a/{device}\"\ndestination = \"ward\"\n";
    assert!(refusal(text, "route[0].destination").contains("no destination \"ward\""));
    let stored = r#"{"version":2,"destinations":{"ward":{"onion":"x"}},"agreements":{},"identities":{}}"#;
    let config = Files::with("/state/registry.json", stored).check(text).unwrap();
    assert!(!warned(&config, "destination"));
    assert!(config.routes.0[0].names(&"ward".parse().unwrap()));
    // Of what is not there, or not for these eyes, nothing is said but by the route.
    for (text, kind, path) in [
        (text, io::ErrorKind::PermissionDenied, "route[0].destination"),
        ("", io::ErrorKind::TimedOut, "state_dir"),
        ("", io::ErrorKind::FileTooLarge, "state_dir"),
    ] {
        let around = Surroundings { read_registry: &|_| Err(kind.into()), ..around() };
        let problems = ConfigText::parse(text, &[]).unwrap().check(&around).unwrap_err();
        assert_eq!(problems.iter().map(|located| located.problem.path.as_str()).collect::<Vec<_>>(), [path]);
    }
    assert!(
        ConfigText::parse("", &[])
            .unwrap()
            .check(&Surroundings { read_registry: &|_| Err(io::ErrorKind::PermissionDenied.into()), ..around() })
            .is_ok()
    );
    let damaged = Files::with("/state/registry.json", "{\"destinations\":{\"swordfish").refusal("", "state_dir");
    assert!(damaged.contains("damaged (line 1") && !damaged.contains("swordfish"), "{damaged}");
}

#[test]
fn one_destination_is_checked_by_itself_as_in_a_file() {
    let around = around();
    let raw = |json: &str| serde_json::from_str(json).unwrap();
    let id = "a".parse().unwrap();
    let made = check_destination(&id, &raw(&format!("{{\"onion\":\"{ONION}\",\"lanes\":3}}")), &around, "it").unwrap();
    assert_eq!((made.destination.agreement.lanes, &made.destination.id), (3, &id));
    // What a config is warned of is told of it, too.
    assert_eq!(made.warnings.iter().map(|warning| warning.path.as_str()).collect::<Vec<_>>(), ["it.receiver_memory"]);
    let wrong = raw(r#"{"onion":"x","lanes":99,"write_key":{"file":"none"},"windows":{"timezone":"Moon"}}"#);
    let problems = check_destination(&id, &wrong, &around, "it").unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["it.onion", "it.write_key.file", "it.windows.timezone", "it.lanes"]);
}

#[test]
fn an_onion_address_must_be_one() {
    let wrong = ONION.replacen('g', "h", 1);
    assert!(refusal(&format!("[destination.a]\nonion = \"{wrong}\""), "destination.a.onion").contains("checksum"));
    assert!(
        refusal("[destination.a]\nonion = \"example.com:80\"", "destination.a.onion").contains("onion services only")
    );
    assert!(refusal("[destination.a]\nlanes = 1", "destination.a.onion").contains("needs the address"));
    assert!(refusal(&format!("[destination.A]\nonion = \"{ONION}\""), "destination.A").contains("alias"));
}

#[test]
fn windows_must_open_before_a_message_dies() {
    let text = |windows: &str| format!("[destination.a]\nonion = \"{ONION}\"\n{windows}");
    let zone = text("windows.timezone = \"Europe/Madird\"");
    assert!(refusal(&zone, "destination.a.windows.timezone").contains("unknown time zone"));
    let never = text("windows.allow = [{ cron = \"0 0 30 2 *\", for = \"1h\" }]");
    assert!(refusal(&never, "destination.a.windows.allow[0].cron").contains("never opens"));
    let weekly =
        text("windows.allow = [{ days = \"mon\", from = \"08:00\", to = \"09:00\" }]\nlifetime.max_age = \"6d\"");
    assert!(refusal(&weekly, "destination.a.lifetime.max_age").contains("stay closed for 167h"));
}

#[test]
fn routes_yield_what_exists() {
    let text = |route: &str| {
        format!(
            "[destination.cardiology]\nonion = \"{ONION}\"\n[destination.lab]\nonion = \"{OTHER}\"\n[[route]]\n{route}"
        )
    };
    let config = accepted(&text("topic = \"{destination}/{device}/#\""));
    let route = &config.routes.0[0];
    assert_eq!((&route.device, &route.destination), (&IdSource::Capture, &IdSource::Capture));
    assert_eq!(route.allow, None, "all that there are");
    let config = accepted(&text("topic = \"x/+\"\ndevice = \"d\"\ndestination = \"lab\""));
    assert_eq!(config.routes.0[0].allow, Some(vec!["lab".parse().unwrap()]));
    let config = accepted(&text("topic = \"x/+\"\ndevice = { property = true }\ndestination = \"lab\""));
    assert_eq!(config.routes.0[0].device, IdSource::Property);
    assert!(warned(&config, "route[0].device"));

    for (route, path, reason) in [
        ("device = \"d\"", "route[0].topic", "needs a topic"),
        ("topic = \"a/#/b\"", "route[0].topic", "last level"),
        ("topic = \"x/{device}\"", "route[0].destination", "does not say which destination"),
        ("topic = \"x/{destination}\"", "route[0].device", "does not say which device"),
        ("topic = \"x\"\ndevice = \"{device}\"\ndestination = \"lab\"", "route[0].device", "not captured"),
        ("topic = \"x\"\ndevice = \"{destination}\"\ndestination = \"lab\"", "route[0].device", "characters"),
        ("topic = \"x\"\ndevice = \"d\"\ndestination = \"labb\"", "route[0].destination", "no destination \"labb\""),
        (
            "topic = \"{destination}\"\ndevice = \"d\"\nallow = [\"lab\", \"moon\"]",
            "route[0].allow[1]",
            "no destination",
        ),
        ("topic = \"{destination}\"\ndevice = \"d\"\nallow = []", "route[0].allow", "quarantine"),
        (
            "topic = \"x\"\ndevice = \"d\"\ndestination = \"lab\"\nallow = [\"cardiology\"]",
            "route[0].allow",
            "always yields lab",
        ),
        ("topic = \"x\"\ndevice = { property = false }\ndestination = \"lab\"", "route[0].device", "says nothing"),
    ] {
        let message = refusal(&text(route), path);
        assert!(message.contains(reason), "{route}: {message}");
    }
}

#[test]
fn listeners_beyond_loopback_need_device_credentials() {
    for (text, path) in
        [("http.listen = \"0.0.0.0:8000\"", "http.listen"), ("http.listen = \"192.168.1.2:8000\"", "http.listen")]
    {
        assert!(refusal(text, path).contains("no device has credentials"));
        let mut devices = Devices::default();
        assert!(Files::with("/state/devices.toml", &devices.to_text()).refusal(text, path).contains("no device"));
        devices.put(crate::config::devices::DeviceCredential {
            device: "esp32".parse().unwrap(),
            secret_sha256: [7; 32],
            destinations: vec![],
        });
        let config = Files::with("/state/devices.toml", &devices.to_text()).check(text).unwrap();
        assert_eq!(config.devices, devices);
    }
    // It has no access rules, so that a credential there would bind nobody.
    let embedded = "mqtt = { embedded = true, host = \"0.0.0.0\" }";
    assert!(refusal(embedded, "mqtt.host").contains("no access rules"));
    let mut devices = Devices::default();
    devices.put(crate::config::devices::DeviceCredential {
        device: "esp32".parse().unwrap(),
        secret_sha256: [7; 32],
        destinations: vec![],
    });
    let files = Files::with("/state/devices.toml", &devices.to_text());
    assert!(files.refusal(embedded, "mqtt.host").contains("no access rules"));
    let damaged = Files::with("/state/devices.toml", "version = 1\n[[device]]\n").refusal("", "state_dir");
    assert!(damaged.contains("/state/devices.toml are damaged"), "{damaged}");
    assert!(refusal("http.listen = \"localhost\"", "http.listen").contains("not an address"));
    accepted("http.listen = \"localhost:8000\"");
    accepted("[http]\nenabled = false\nlisten = \"0.0.0.0:8000\"");
    assert!(warned(&accepted("admin.listen = \"0.0.0.0:8088\""), "admin.listen"));
    assert!(refusal("admin.listen = \"127.0.0.1:8000\"", "admin.listen").contains("taken by http.listen"));
}

#[test]
fn the_broker_is_found_without_a_name_server() {
    assert!(refusal("mqtt.host = \"broker.example.org\"", "mqtt.host").contains("asks no name server"));
    let files = Files::with("/etc/hosts", "192.168.1.7 broker\n");
    let config = files.check("mqtt.host = \"broker\"").unwrap();
    let mqtt = config.mqtt.as_ref().unwrap();
    assert_eq!((mqtt.connect().to_string().as_str(), mqtt.host.as_str()), ("192.168.1.7:1883", "broker"));
    assert!(warned(&config, "mqtt.host"), "not encrypted");
    assert!(refusal("mqtt.tls_ca_file = \"ca.pem\"", "mqtt.tls_ca_file").contains("this build"));
    assert!(refusal("mqtt.password = { file = \"p\" }", "mqtt.password").contains("user name"));
    let embedded = accepted("mqtt.embedded = true");
    assert_eq!(embedded.mqtt.as_ref().unwrap().listen().to_string(), "127.0.0.1:1883");
    assert!(warned(&embedded, "mqtt.embedded"));
    assert!(accepted("mqtt.enabled = false").mqtt.is_none());
}

#[test]
fn tor_and_matrix_stay_near() {
    let config = accepted("[tor]\ntransport = \"socks\"");
    assert_eq!(config.tor.transport, TorTransport::Socks("127.0.0.1:9050".parse().unwrap()));
    assert!(refusal("[tor]\ntransport = \"socks\"\nsocks = \"10.0.0.1:9050\"", "tor.socks").contains("loopback only"));
    assert!(warned(&accepted("[tor]\nsocks = \"127.0.0.1:9050\""), "tor.socks"));
    let room = |homeserver: &str| {
        format!("[matrix]\nhomeserver = \"{homeserver}\"\nuser = \"tidegate\"\npassword = {{ file = \"p\" }}")
    };
    let mut files = Files::with("/etc/tidegate/p", "a password\n");
    let matrix = files.check(&room("http://127.0.0.1:8008")).unwrap().matrix.unwrap();
    assert_eq!((matrix.password_file.to_str(), matrix.room.as_str()), (Some("/etc/tidegate/p"), "tidegate"));
    assert!(files.refusal(&room("https://matrix.org"), "matrix.homeserver").contains("https"));
    assert!(files.refusal(&room("http://9.9.9.9"), "matrix.homeserver").contains("public address"));
    let onion = room(&format!("http://{ONION}"));
    assert!(files.check(&onion).is_ok());
    let socks = format!("tor.transport = \"socks\"\n{onion}");
    assert!(files.refusal(&socks, "matrix.homeserver").contains("built-in Tor client alone"));
    // The password is read here, too; once the gateway has logged in, its file may be gone.
    let near = room("http://127.0.0.1:8008");
    for (text, reason) in [("\n", "is empty"), (&"x".repeat(5_000), "are no password")] {
        assert!(Files::with("/etc/tidegate/p", text).refusal(&near, "matrix.password.file").contains(reason));
    }
    assert!(refusal(&near, "matrix.password.file").contains("/etc/tidegate/p could not be read"));
    files.0.remove("/etc/tidegate/p");
    files.0.insert("/state/matrix.json", "{}".to_owned());
    assert!(warned(&files.check(&near).unwrap(), "matrix.password.file"));
    let problems = Files::default().check("[matrix]\nroom = \"#a:b\"\ninvite = [\"nurse\"]").unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|p| p.0.as_str()).collect();
    for path in ["matrix.homeserver", "matrix.user", "matrix.password", "matrix.room", "matrix.invite[0]"] {
        assert!(paths.contains(&path), "{paths:?}");
    }
}

#[test]
fn the_onion_services_for_signals_are_off_need_arti_and_say_what_they_lack() {
    assert!(!accepted("").signal_service);
    let on = "signal_service.enabled = true\n";
    assert!(warned(&accepted(on), "signal_service.enabled"), "nobody may signal");
    let deaf = format!("{on}[destination.a]\nonion = \"{ONION}\"\nsignal = {{ accept = true }}\n");
    let config = accepted(&deaf);
    assert!(config.signal_service && warned(&config, "destination.a.signal"), "no key to know it by");
    assert!(refusal(&format!("tor.transport = \"socks\"\n{on}"), "signal_service.enabled").contains("arti"));
}

#[test]
fn numbers_have_bounds() {
    for (text, path) in [
        ("version = 2", "version"),
        ("mqtt.port = 0", "mqtt.port"),
        ("mqtt.receive_maximum = 0", "mqtt.receive_maximum"),
        ("mqtt.session_expiry = \"1s\"", "mqtt.session_expiry"),
        ("mqtt.session_expiry = \"soon\"", "mqtt.session_expiry"),
        ("http.requests_per_minute = 0", "http.requests_per_minute"),
        ("outbox.cache = \"1\"", "outbox.cache"),
        ("outbox.cache = \"much\"", "outbox.cache"),
        ("outbox.ledger_entries = 0", "outbox.ledger_entries"),
        ("admin.hosts = [\"http://x\"]", "admin.hosts[0]"),
        ("log.filter = \" \"", "log.filter"),
    ] {
        refusal(text, path);
    }
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let files = Files::with("/etc/tidegate/key", "swordfish-swordfish");
    let text = format!("[destination.a]\nonion = \"{ONION}\"\nwrite_key = {{ file = \"key\" }}\n");
    let shown = format!("{:?}", files.check(&text).unwrap());
    assert!(!shown.contains("swordfish") && !shown.contains(&ONION[..20]), "{shown}");
    let raw: RawConfig = toml::from_str(&text).unwrap();
    assert!(!format!("{raw:?}").contains(&ONION[..20]));
}

#[test]
fn an_assumed_clock_deserves_a_second_look() {
    let assumed = accepted("clock.trust = \"assume\"");
    assert_eq!(assumed.clock.trust, TrustPolicy::Assume);
    assert!(warned(&assumed, "clock.trust") && !warned(&accepted(""), "clock.trust"));
    assert_eq!(accepted("clock.trust = \"auto\"").clock.trust, TrustPolicy::Auto);
    assert!(refusal("clock.trust = \"always\"", "").contains("expected `auto` or `assume`"));
}

#[test]
fn what_devices_are_told_and_where() {
    let tidings = |text: &str| accepted(text).mqtt.unwrap().tidings;
    assert_eq!(tidings(""), crate::tidings::Tidings::default());
    let moved = tidings("mqtt.prefix = \"homes/7\"");
    assert!(moved.response_topics[0].matches("homes/7/receipts/x"), "the default list moves with the prefix");
    assert!(tidings("mqtt.response_topics = []").response_topics.is_empty());
    refusal("mqtt.prefix = \"a/+\"", "mqtt.prefix");
    refusal("mqtt.response_topics = [\"a\", \"a/#/b\"]", "mqtt.response_topics[1]");
    refusal("mqtt.response_topics = [\"{device}/answers\"]", "mqtt.response_topics[0]");
    let route = |topic: &str| {
        format!(
            "[destination.ward]\nonion = \"{ONION}\"\n[[route]]\ntopic = \"{topic}\"\ndevice = \"d\"\ndestination = \"ward\""
        )
    };
    refusal(&route("tidegate/readings/#"), "route[0].topic");
    accepted(&route("#"));
}
