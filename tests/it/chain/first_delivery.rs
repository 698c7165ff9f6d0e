//! From an empty folder to the first delivery, by the very commands of the README, each of which has to stand there.

use super::stage::LIMIT;
use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Instant,
};
use tidegate::lab::{
    Mosquitto, MosquittoOptions, ProcessSpec,
    ports::{free_ports, loopback},
};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Somebody's home folder, and how many commands were typed there.
struct Home<'h> {
    folder: &'h Path,
    environment: Vec<(String, String)>,
    readme: String,
    typed: u32,
}

impl Home<'_> {
    /// The command as the README has it. What a shell would do with `~` is done here.
    fn words(&mut self, command: &str) -> Vec<String> {
        let lines = self.readme.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
        assert!(lines.into_iter().any(|line| line == command), "the README does not say: {command}");
        self.typed += 1;
        let home = self.folder.display().to_string();
        let mut words: Vec<String> = Vec::new();
        for (index, part) in command.split('\'').enumerate() {
            match index % 2 {
                0 => words.extend(part.split_whitespace().map(|word| word.replacen('~', &home, 1))),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }

    fn command(&mut self, command: &str) -> Command {
        let words = self.words(command);
        let program = if words[0] == "tidegate" { TIDEGATE } else { &words[0] };
        let mut made = Command::new(program);
        made.args(&words[1..]).current_dir(self.folder).envs(self.environment.iter().cloned());
        made
    }

    fn does(&mut self, command: &str) -> Output {
        let done = self.command(command).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
        done
    }
}

/// The lines of the receiver's block for the gateway's config, once it is there.
fn block(log: &Path) -> String {
    let began = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("[destination.")
            && let Some((keys, _)) = rest.split_once("receipt_key").filter(|(_, rest)| rest.contains('\n'))
        {
            let last = rest[keys.len()..].lines().next().unwrap();
            return format!("[destination.{keys}{last}\n");
        }
        assert!(began.elapsed() < LIMIT, "no block for the gateway's config: {text}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn the_readmes_steps_lead_from_an_empty_folder_to_a_delivery() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let network = runtime.block_on(crate::tor_net::network());
    // On a disk: the doctor complains of a state folder in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ports = free_ports(3).unwrap();
    // Only what every machine has of its own differs: ports that are free here, and the network.
    let set = |key: &str, value: String| (key.to_owned(), value);
    let mut home = Home {
        folder: folder.path(),
        environment: vec![
            set("HOME", folder.path().display().to_string()),
            set("XDG_CONFIG_HOME", folder.path().join(".config").display().to_string()),
            set("TIDEGATE__ADMIN__LISTEN", loopback(ports[0]).to_string()),
            set("TIDEGATE__HTTP__LISTEN", loopback(ports[1]).to_string()),
            set("TIDEGATE_TESTNET", network.folder().display().to_string()),
        ],
        readme: fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap(),
        typed: 0,
    };
    let began = Instant::now();

    let log = folder.path().join("receiver.log");
    let words = home.words("tidegate receiver --folder ~/readings --destination cardiology");
    let receiver = ProcessSpec::new("receiver", TIDEGATE, &log).args(&words[1..]);
    let receiver = home.environment.iter().cloned().fold(receiver, |spec, (key, value)| spec.env(key, value));
    let _receiver = receiver.folder(folder.path()).spawn().unwrap();
    fs::write(folder.path().join("block.toml"), block(&log)).unwrap();
    fs::copy(folder.path().join("readings/gateway.write_key"), folder.path().join("gateway.write_key")).unwrap();

    // Every question is answered with the return key.
    let mut init = home.command("tidegate init --block block.toml");
    let answers = folder.path().join("answers");
    fs::write(&answers, "\n".repeat(9)).unwrap();
    let made = init.stdin(fs::File::open(&answers).unwrap()).output().unwrap();
    assert!(made.status.success(), "{made:?}");

    // A mosquitto with the settings that were written.
    let fragment = fs::read_to_string(folder.path().join("mosquitto-tidegate.conf")).unwrap();
    let settings = fragment.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let broker = Mosquitto::start(&MosquittoOptions { settings, ..MosquittoOptions::default() }).unwrap();
    let port = broker.address().port();
    home.environment.push(set("TIDEGATE__MQTT__PORT", port.to_string()));
    fs::create_dir(folder.path().join(".config")).unwrap();
    fs::write(folder.path().join(".config/mosquitto_pub"), format!("-p {port}\n")).unwrap();

    let checked = home.does("tidegate check");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("cardiology"), "{checked:?}");
    // mosquitto's config lies elsewhere here.
    let mut doctor = home.command("tidegate doctor");
    let healthy = doctor.args(["--broker-config", "mosquitto-tidegate.conf"]).output().unwrap();
    assert!(healthy.status.success(), "{healthy:?}");

    let words = home.words("tidegate run");
    let gateway = ProcessSpec::new("gateway", TIDEGATE, folder.path().join("gateway.log")).args(&words[1..]);
    let gateway = home.environment.iter().cloned().fold(gateway, |spec, (key, value)| spec.env(key, value));
    let _gateway = gateway.folder(folder.path()).spawn().unwrap();
    home.does("tidegate wait --for ready");
    home.does("mosquitto_pub -q 1 -t patient/beats/bpm -m 'Beats: 70.00 bpm'");
    home.does("tidegate wait --for delivered --entry cardiology/1");
    let took = began.elapsed();
    let ended = home.does("tidegate outbox ledger");
    let ended = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.contains("cardiology/1") && ended.contains("delivered") && ended.contains("signed"), "{ended}");
    let mut out = std::io::stdout();
    writeln!(out, "figure first_delivery_commands {} commands", home.typed).unwrap();
    writeln!(out, "figure first_delivery_s {:.1} s", took.as_secs_f64()).unwrap();
}
