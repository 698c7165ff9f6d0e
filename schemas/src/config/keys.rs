//! The one list of all keys of the config: what each means, and what holds when it is absent.
//!
//! Unknown keys and their suggestions are found with it, `docs/config.md` is printed from it ([`reference()`]), and tests hold it
//! against the types that serde reads, against the real defaults, and against `schemas/config/example.toml`.
//!
//! In a path, `*` stands for a name that the operator chooses, and `[]` for the elements of a list.

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its path, such as `destination.*.windows.allow[].cron`.
    pub path: &'static str,
    /// What may stand there, in words.
    pub kind: &'static str,
    /// What holds when it is absent, as TOML; empty where there is no such value.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

const fn key(path: &'static str, kind: &'static str, default: &'static str, about: &'static str) -> ConfigKey {
    ConfigKey { path, kind, default, about }
}

/// All keys, in the order of the reference.
pub const KEYS: &[ConfigKey] = &[
    key("version", "1", "1", "Version of this format."),
    key(
        "state_dir",
        "folder",
        "",
        "Where the outbox, the registry, Tor's state, tokens and device credentials are kept. Default: systemd's `$STATE_DIRECTORY`, else `/var/lib/tidegate` as root, else `$XDG_STATE_HOME/tidegate` (`~/.local/state/tidegate`).",
    ),
    key(
        "mqtt.enabled",
        "true or false",
        "true",
        "Whether a broker is used. Without one, devices hand in by HTTP alone.",
    ),
    key(
        "mqtt.embedded",
        "true or false",
        "false",
        "Start a broker of our own as a child process. For a first run: it is not durable, because it acknowledges before the outbox has the message.",
    ),
    key(
        "mqtt.host",
        "address or name",
        "\"localhost\"",
        "Where the broker is (with `embedded`: where it listens, on loopback alone): an IP address, `localhost`, or a name in `/etc/hosts`. No name server is ever asked.",
    ),
    key("mqtt.port", "1 to 65535", "1883", "Its TCP port; 8883 is usual with TLS."),
    key(
        "mqtt.protocol",
        "\"5\" or \"3.1.1\"",
        "\"5\"",
        "MQTT version. Content types, user properties and expiry need 5.",
    ),
    key("mqtt.username", "text", "", "User name at the broker."),
    key("mqtt.password", "{ file = \"...\" }", "", "File with the password."),
    key(
        "mqtt.password.file",
        "file",
        "",
        "The file, relative to this config file; the first and last blanks of its text are cut.",
    ),
    key(
        "mqtt.tls_ca_file",
        "file",
        "",
        "PEM file of the CA that signed the broker's certificate. Its presence means TLS; needs a build with the feature `mqtt-tls`.",
    ),
    key(
        "mqtt.session_expiry",
        "length of time, from 1m",
        "\"30d\"",
        "How long the broker keeps our session and its queue while the gateway is away (MQTT 5).",
    ),
    key(
        "mqtt.receive_maximum",
        "1 to 65535",
        "100",
        "Publications at QoS 1 that the broker may have under way to us (MQTT 5).",
    ),
    key(
        "mqtt.prefix",
        "topic",
        "\"tidegate\"",
        "The first levels of the gateway's own topics. Nothing below it is ever taken for a reading.",
    ),
    key(
        "mqtt.states",
        "true or false",
        "true",
        "Whether devices are told, on retained topics, how the gateway and each destination are. See docs/devices.md.",
    ),
    key(
        "mqtt.receipts",
        "true or false",
        "false",
        "Whether devices that named no response topic hear what became of their messages, each on `PREFIX/receipts/DEVICE`.",
    ),
    key(
        "mqtt.response_topics",
        "list of topic filters",
        "[\"tidegate/receipts/#\"]",
        "Response topics (MQTT 5) that are answered; by default those below `PREFIX/receipts/`, where a device may name its own alone. Never one that a route takes. `[]` answers nobody.",
    ),
    key(
        "mqtt.signals",
        "true or false",
        "false",
        "Whether signals are taken on `PREFIX/destinations/NAME/signal`, `PREFIX` being `mqtt.prefix`. Who may publish there is for the broker's access rules to say.",
    ),
    key("http.enabled", "true or false", "true", "Whether devices may hand in by HTTP."),
    key(
        "http.listen",
        "ADDRESS:PORT",
        "\"127.0.0.1:8000\"",
        "Where. Beyond loopback it needs device credentials (`tidegate device add NAME`).",
    ),
    key(
        "http.requests_per_minute",
        "from 1",
        "600",
        "Requests a minute of one device, or of one address without credentials.",
    ),
    key("tor.transport", "\"arti\" or \"socks\"", "\"arti\"", "Tor in this process, or a system tor by SOCKS5."),
    key(
        "tor.socks",
        "ADDRESS:PORT on loopback",
        "",
        "The SOCKS port of the system tor, with `transport = \"socks\"`. Default then: `127.0.0.1:9050`.",
    ),
    key(
        "tor.vanguards",
        "\"lite\" or \"full\"",
        "\"lite\"",
        "How strongly the first relays of a path are kept. `full` for high risk: slower, harder to trace. A system tor decides this itself.",
    ),
    key(
        "matrix.homeserver",
        "http://ADDRESS:PORT",
        "",
        "Where deliveries are acknowledged: a homeserver on loopback, on a private address, or an onion service (reached over Tor on an isolation of its own). Anything else is refused.",
    ),
    key("matrix.user", "text", "", "The gateway's user there: local part or full id."),
    key(
        "matrix.password",
        "{ file = \"...\" }",
        "",
        "File with its password, read at the first log-in, and at any later one that the homeserver asks for.",
    ),
    key("matrix.password.file", "file", "", "The file, relative to this config file."),
    key("matrix.room", "text", "\"tidegate\"", "Local part of the room's alias. The room is made when it is missing."),
    key(
        "matrix.invite",
        "list of user ids",
        "[]",
        "Who is invited when the gateway makes the room: `\"@nurse:example.org\"`. Into a room that is there already, invite people yourself.",
    ),
    key(
        "signal_service.enabled",
        "true or false",
        "false",
        "Whether the gateway hosts an onion service for each destination that has a key by `tidegate destination signal-key NAME`, `signal.accept` and a `receipt_key`. Needs `tor.transport = \"arti\"`.",
    ),
    key(
        "admin.listen",
        "ADDRESS:PORT",
        "\"127.0.0.1:8088\"",
        "Where the admin endpoint listens. It asks for the token in the state folder.",
    ),
    key(
        "admin.hosts",
        "list of host names",
        "[]",
        "More values of the `Host` header that it answers, beside its address and `localhost`.",
    ),
    key(
        "outbox.engine",
        "\"sled\" or \"redb\"",
        "\"sled\"",
        "The database that keeps the outbox; see `docs/custody.md` for what each gives. A state folder belongs to the engine that made it: with the other one the gateway says so and doesn't start.",
    ),
    key("outbox.cache", "size, 8MiB to 64MiB", "\"8MiB\"", "Page cache of the store."),
    key(
        "outbox.ledger_entries",
        "from 1",
        "20000",
        "End states (delivered, expired ...) that are kept for the operator.",
    ),
    key(
        "outbox.quarantine_entries",
        "from 1",
        "1000",
        "Records of publications that were acknowledged and became no entry.",
    ),
    key(
        "outbox.max_messages",
        "from 1",
        "1000000",
        "Messages that may wait, of all destinations. At this limit, and at the two below, nothing more is taken or acknowledged: the broker keeps what it has, HTTP hears 507. The log and `tidegate status` warn from 80 % on.",
    ),
    key(
        "outbox.max_bytes",
        "size, from 1MiB",
        "\"1GiB\"",
        "Their bodies. The store takes several times as much of the disk.",
    ),
    key(
        "outbox.min_free_disk",
        "size",
        "\"64MiB\"",
        "Room on the disk of the state folder below which nothing is taken, and which no backup takes. What waits is delivered all the same.",
    ),
    key(
        "outbox.on_corrupt",
        "\"stop\" or \"set_aside\"",
        "\"stop\"",
        "What is done at the start when the store is damaged. `stop`: the gateway doesn't start, and an operator decides. `set_aside`: its folder is moved away (never removed), the log and `tidegate status` say so, and an empty one begins.",
    ),
    key(
        "ledger.archive",
        "true or false",
        "true",
        "Whether end states are kept in files, too: see [ledger.md](ledger.md).",
    ),
    key("ledger.retention_days", "1 to 36500", "365", "How many days such a file is kept after its own day."),
    key(
        "clock.trust",
        "\"auto\" or \"assume\"",
        "\"auto\"",
        "Whether the wall clock is believed. What depends on the time of day stays closed while it isn't. `auto`: when the kernel says that it is synchronised, or when it agrees with the times of the consensus that arti has fetched. `assume`: when nobody vouches for it, too, which is for networks without a time server; `check`, the log and `tidegate status` say so. Neither believes a time before this program was made, or one more than 30 minutes from Tor's.",
    ),
    key(
        "log.filter",
        "tracing filter",
        "\"info\"",
        "Such as `info`, or `info,tidegate=debug`. Payloads, onion addresses and keys are never logged, at any level.",
    ),
    key("log.format", "\"text\" or \"json\"", "\"text\"", "For people, or one JSON object a line."),
    key(
        "route[].topic",
        "topic filter",
        "",
        "Which publications: an MQTT filter whose levels may be `{device}` and `{destination}`. The first route that matches counts.",
    ),
    key(
        "route[].device",
        "name, \"{device}\" or { property = true }",
        "",
        "Who sent it. Default: the capture, if the topic has it. With `property`, the MQTT 5 user property `device` is believed.",
    ),
    key("route[].device.property", "true", "", "Believe the user property `device`."),
    key(
        "route[].destination",
        "name, \"{destination}\" or { property = true }",
        "",
        "Where it goes. Default: the capture, if the topic has it. With `property`, the MQTT 5 user property `destination` is believed.",
    ),
    key("route[].destination.property", "true", "", "Believe the user property `destination`."),
    key(
        "route[].allow",
        "list of destinations",
        "",
        "What this route may yield, whatever the device says; the rest goes to quarantine. Default: the fixed destination, or all that there are.",
    ),
    key(
        "route[].payload",
        "\"opaque\" or \"private-iot\"",
        "\"opaque\"",
        "`opaque` passes the body on as it is. `private-iot` takes the last topic level as the measure and the text after the last colon as the value.",
    ),
    key(
        "route[].retained",
        "true or false",
        "false",
        "Whether messages from the broker's retained store are taken: with MQTT 5 when the subscription is new, with 3.1.1 at every connection, each time as a new message.",
    ),
    key(
        "route[].priority",
        "\"normal\", \"high\" or \"break_glass\"",
        "\"normal\"",
        "What goes first. `break_glass`: an alarm, which may go out through a closed window where the destination's agreement lets it.",
    ),
    key("destination.*.onion", "ADDRESS.onion[:PORT]", "", "The onion service, version 3. The port is 80 unless said."),
    key(
        "destination.*.client_auth",
        "{ file = \"...\" }",
        "",
        "Key of onion client authorization, where the service asks for it: tor's `.auth_private` file, or the key alone in base32.",
    ),
    key("destination.*.client_auth.file", "file", "", "The file, relative to this config file."),
    key(
        "destination.*.write_key",
        "{ file = \"...\" }",
        "",
        "The key that a `tidegate receiver` asks of those who write.",
    ),
    key("destination.*.write_key.file", "file", "", "The file, relative to this config file."),
    key(
        "destination.*.receipt_key",
        "base64 or hexadecimal",
        "",
        "The public key under which the receiver signs its receipts; `tidegate receiver` prints it.",
    ),
    key(
        "destination.*.format",
        "\"private-iot\", \"raw\", \"cloudevents\" or \"cloudevents-batch\"",
        "\"cloudevents\"",
        "What is sent.",
    ),
    key(
        "destination.*.success",
        "\"2xx\" or \"receipt\"",
        "",
        "What counts as delivered. With `receipt`, a 2xx without the receiver's valid signature is a failed attempt. Default: `receipt` where there is a receipt key, else `2xx`.",
    ),
    key("destination.*.windows.timezone", "IANA name", "\"UTC\"", "Time zone of the windows, such as `Europe/Madrid`."),
    key(
        "destination.*.windows.allow",
        "list of windows",
        "[]",
        "When it may be tried: `{ days, dates, months, from, to }` or `{ cron, for }`. None (and no `once`) means always. A window may cross midnight. See [windows.md](windows.md).",
    ),
    key("destination.*.windows.allow[].days", "days", "\"daily\"", "`mon-fri`, `sat,sun`, `daily`."),
    key(
        "destination.*.windows.allow[].dates",
        "days of the month",
        "",
        "`1-7,15,last`. With `days`, both must hold. Default: all.",
    ),
    key("destination.*.windows.allow[].months", "months", "", "`jan-mar,dec`. Default: all."),
    key("destination.*.windows.allow[].from", "HH:MM", "\"00:00\"", "When it opens."),
    key("destination.*.windows.allow[].to", "HH:MM", "\"24:00\"", "When it closes; before `from` means the next day."),
    key(
        "destination.*.windows.allow[].cron",
        "five cron fields",
        "",
        "When it opens: minute, hour, day of month, month, day of week. A time that a clock change skips moves forward, one that comes twice opens once.",
    ),
    key("destination.*.windows.allow[].for", "length of time", "", "How long an opening by cron lasts."),
    key("destination.*.windows.allow[].note", "text", "", "For people."),
    key(
        "destination.*.windows.deny",
        "list of windows",
        "[]",
        "When it is closed, whatever else opens it: a window as in `allow`, or `{ from, until }`, once.",
    ),
    key("destination.*.windows.deny[].days", "days", "\"daily\"", "As in `allow`."),
    key("destination.*.windows.deny[].dates", "days of the month", "", "As in `allow`."),
    key("destination.*.windows.deny[].months", "months", "", "As in `allow`."),
    key(
        "destination.*.windows.deny[].from",
        "HH:MM, or day or time",
        "\"00:00\"",
        "As in `allow`; with `until` the moment at which it begins, such as `2027-12-24T20:00`.",
    ),
    key("destination.*.windows.deny[].to", "HH:MM", "\"24:00\"", "As in `allow`."),
    key(
        "destination.*.windows.deny[].until",
        "day or time",
        "",
        "The moment at which it ends, in the time zone of the windows.",
    ),
    key("destination.*.windows.deny[].cron", "five cron fields", "", "As in `allow`."),
    key("destination.*.windows.deny[].for", "length of time", "", "As in `allow`."),
    key("destination.*.windows.deny[].note", "text", "", "For people."),
    key("destination.*.windows.once", "list of openings", "[]", "Openings that come once: `{ at, for }`."),
    key("destination.*.windows.once[].at", "day or time", "", "When it opens, in the time zone of the windows."),
    key("destination.*.windows.once[].for", "length of time", "", "For how long, up to 31 days."),
    key("destination.*.windows.once[].note", "text", "", "For people."),
    key(
        "destination.*.windows.cutoff",
        "0s to 6h",
        "\"0s\"",
        "Nothing new starts so long before a closing. Must be shorter than the shortest opening.",
    ),
    key(
        "destination.*.windows.grace",
        "0s to 10m",
        "\"30s\"",
        "An attempt under way may go on so long after a closing.",
    ),
    key(
        "destination.*.windows.guard",
        "0s to 6h",
        "\"0s\"",
        "Against an inexact clock: every opening begins so much later and ends so much earlier.",
    ),
    key(
        "destination.*.valid.from",
        "day or time",
        "",
        "The agreement's first moment, in the time zone of the windows: `2027-01-31` or `2027-01-31T08:00`. Before it nothing is delivered.",
    ),
    key("destination.*.valid.until", "day or time", "", "The first moment after the agreement."),
    key("destination.*.signal.accept", "true or false", "false", "Whether \"ready until\" and \"not now\" are heard."),
    key("destination.*.signal.ttl_max", "60s to 24h", "\"15m\"", "Longest time that one signal opens or closes."),
    key(
        "destination.*.signal.only",
        "true or false",
        "false",
        "Nothing but a signal opens it; windows, if there are any, say when one may.",
    ),
    key("destination.*.signal.per_hour", "1 to 12", "4", "Signals that are honoured in an hour."),
    key(
        "destination.*.retry.steps",
        "list of lengths of time",
        "[\"15s\", \"1m\", \"5m\", \"15m\"]",
        "The waits after the first, second ... failure in a row; the last repeats. A `Retry-After` lengthens a wait up to the last step.",
    ),
    key("destination.*.retry.jitter", "0 to 1", "0.1", "Largest share of a wait that is added at random."),
    key(
        "destination.*.status.ok",
        "list of statuses",
        "[]",
        "Answers that count as delivered beside 2xx: 304, or 400 to 599. An agreed receipt is still asked for.",
    ),
    key(
        "destination.*.status.park",
        "list of statuses",
        "[]",
        "Answers that refuse this message, beside 400, 413, 415 and 422: see `head_of_line`.",
    ),
    key(
        "destination.*.status.refuse",
        "list of statuses",
        "[]",
        "Answers that refuse this message for good, beside 410: it becomes a dead letter.",
    ),
    key("destination.*.breaker.failures", "from 1", "5", "After so many failures in a row and ..."),
    key(
        "destination.*.breaker.since_success",
        "60s to 7d",
        "\"1h\"",
        "... so long without a success, it is tried but once in each opening (in a long one every 6 hours, if this is no longer); where it is always open, once in this time.",
    ),
    key(
        "destination.*.lifetime.max_age",
        "length of time, from 60s",
        "\"14d\"",
        "How long a message lives from custody on. Must be longer than the longest gap between openings.",
    ),
    key(
        "destination.*.lifetime.ages",
        "\"always\" or \"while_open\"",
        "\"always\"",
        "When it ages, with `max_age`: `while_open` counts only the time that the destination is open.",
    ),
    key(
        "destination.*.lifetime.attempts",
        "from 1",
        "",
        "In place of `max_age`: so many failed attempts at the destination since custody.",
    ),
    key(
        "destination.*.lifetime.missed_windows",
        "from 1",
        "",
        "In place of `max_age`: so many openings that closed since custody while the gateway ran.",
    ),
    key(
        "destination.*.notify_after",
        "list of lengths of time",
        "[]",
        "When the oldest message reaches such an age, the log and the room say so.",
    ),
    key(
        "destination.*.receiver_memory",
        "length of time",
        "",
        "How long the receiver remembers message ids (`tidegate receiver` keeps them as long as the readings). Must not be shorter than the lifetime.",
    ),
    key(
        "destination.*.order",
        "\"per_device\" or \"none\"",
        "\"per_device\"",
        "What has to come in order: the messages of one device, or nothing.",
    ),
    key(
        "destination.*.head_of_line",
        "\"block\", \"rotate\" or { park_after = N }",
        "{ park_after = 1 }",
        "What becomes of a message that the service refuses. `block`: its device's later ones wait behind it. `rotate`: they pass it, and it is tried again by the retry steps. `park_after`: parked after so many refusals.",
    ),
    key("destination.*.head_of_line.park_after", "from 1", "", "Refusals until the message is parked."),
    key(
        "destination.*.break_glass.per_hour",
        "1 to 30",
        "",
        "Lets messages of routes with `priority = \"break_glass\"` out through a closed window, so many an hour. Such deliveries are flagged everywhere.",
    ),
    key("destination.*.lanes", "1 to 8", "2", "Connections at once, each on a circuit of its own."),
    key(
        "destination.*.limits.messages",
        "from 1",
        "50000",
        "Messages that may wait; at the limit, new ones are refused.",
    ),
    key("destination.*.limits.bytes", "size", "\"64MiB\"", "Their bodies together."),
    key(
        "destination.*.limits.on_full",
        "\"reject\" or \"drop_oldest\"",
        "\"reject\"",
        "What is done at the limit. `drop_oldest`: the oldest queued messages make room, counted and told.",
    ),
    key("destination.*.limits.device.messages", "from 1", "", "Messages of one device that may wait."),
    key("destination.*.limits.device.bytes", "size", "", "Their bodies together."),
    key("destination.*.limits.device.per_minute", "from 1", "", "Messages that one device may hand in, a minute."),
    key(
        "destination.*.tor_budget.fresh_circuits_per_hour",
        "1 to 600",
        "12",
        "Fresh circuits an hour, whatever the reason: at the limit the destination waits.",
    ),
    key("destination.*.deadlines.connect", "1s to 10m", "\"120s\"", "To reach the onion service over a fresh circuit."),
    key("destination.*.deadlines.exchange", "1s to 10m", "\"60s\"", "From a request to the last byte of its answer."),
];

mod reference;
mod unknown;

pub use reference::reference;
pub use unknown::take_unknown;

#[cfg(test)]
mod tests;
