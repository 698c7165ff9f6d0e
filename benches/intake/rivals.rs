//! What else people put behind a broker on a small machine. `.ci/setup bench` installs both.

use super::consumers::Talker;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use tidegate::lab::{folder::tools_folder, ports};

fn installed(place: &str) -> PathBuf {
    let path = tools_folder().join(place);
    assert!(path.exists(), "{} is missing: run .ci/setup bench", path.display());
    path
}

/// A script with paho-mqtt and SQLite.
pub fn sqlite(folder: &Path, broker: SocketAddr, count: u64) -> Talker {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/intake/sqlite.py");
    let mut command = Command::new(installed("bench-venv/bin/python"));
    command.arg(script).arg(broker.port().to_string()).arg(folder.join("readings.db")).arg(count.to_string());
    Talker::start(&mut command)
}

/// Node-RED, whose flow pushes every message to a queue in a file context with that context's own settings; with a session that lasts, or as it comes.
pub fn node_red(folder: &Path, broker: SocketAddr, count: u64, lasting: bool) -> Talker {
    let program = installed("node-red/node_modules/node-red/red.js");
    let port = ports::free_ports(1).expect("a free port")[0];
    let settings = format!(
        "module.exports = {{ uiHost: '127.0.0.1', uiPort: {port}, flowFile: 'flows.json', credentialSecret: false,\n\
         contextStorage: {{ default: 'memory', memory: {{ module: 'memory' }}, file: {{ module: 'localfilesystem' }} }} }};\n"
    );
    let push = format!(
        "const queue = context.get('queue', 'file') || [];\n\
         queue.push(msg);\n\
         context.set('queue', queue, 'file');\n\
         if (queue.length === {count}) node.warn('done');\n"
    );
    // A node without a place in the editor would be taken for one of settings.
    let flows = serde_json::json!([
        { "id": "flow", "type": "tab", "label": "readings" },
        { "id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1", "port": broker.port().to_string(),
          "autoConnect": true, "protocolVersion": "4", "keepalive": "60", "cleansession": !lasting, "clientid": if lasting { "node-red" } else { "" }, "usetls": false },
        { "id": "in", "type": "mqtt in", "z": "flow", "x": 100, "y": 100, "topic": "ward/+/pulse", "qos": "1", "datatype": "auto-detect",
          "broker": "broker", "wires": [["push"]] },
        { "id": "push", "type": "function", "z": "flow", "x": 300, "y": 100, "name": "push", "func": push, "outputs": 1,
          "wires": [[]] },
    ]);
    let home = folder.join("node-red");
    fs::create_dir(&home).expect("its folder");
    fs::write(home.join("settings.js"), settings).expect("its settings");
    fs::write(home.join("flows.json"), flows.to_string()).expect("its flow");
    Talker::start(Command::new("node").arg(program).arg("--userDir").arg(&home))
}
