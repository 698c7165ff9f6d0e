// The house that is looked at: a real gateway, a real receiver, a service that refuses, and devices that have handed in. All of
// it on loopback and below a temporary folder; it ends with the tests.

import { spawn, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { startTor } from './tor.js';
import { publish } from './mqtt.js';

const LONG = 'the-device-at-the-far-end-of-the-second-corridor-of-ward-nine';
export const WARD = 64;
const REFUSED = 8;
const DELIVERED = 12;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
// A wait that doesn't keep the program from ending.
const limit = (ms) => new Promise((done) => setTimeout(done, ms).unref());

// Asks until the answer is not falsy.
export async function until(what, ask, seconds = 40) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await ask().catch((error) => void (ask.error = error));
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s ${ask.error ?? ''}`);
    await sleep(100);
  }
}

function freePort() {
  return new Promise((done) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

// An onion address of version 3 from a key: its checksum is SHA3-256 (rend-spec-v3, "ONION-ADDRESS").
function onion(seed) {
  const key = Buffer.alloc(32, seed);
  const version = Buffer.from([3]);
  const sum = createHash('sha3-256').update('.onion checksum').update(key).update(version).digest().subarray(0, 2);
  const bytes = Buffer.concat([key, sum, version]);
  const letters = 'abcdefghijklmnopqrstuvwxyz234567';
  let bits = '';
  for (const byte of bytes) bits += byte.toString(2).padStart(8, '0');
  return `${bits.match(/.{5}/g).map((five) => letters[parseInt(five, 2)]).join('')}.onion`;
}

// Takes what is fine, refuses what is unwell, and says of the rest that it is gone for good.
async function startService() {
  const server = http.createServer((request, answer) => {
    let body = '';
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      answer.statusCode = body.startsWith('fine') ? 200 : body.startsWith('unwell') ? 422 : 410;
      answer.end();
    });
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { port: server.address().port, stop: () => (server.closeAllConnections?.(), server.close()) };
}

export class House {
  #children = [];
  #closing = [];

  constructor(binary) {
    this.binary = binary;
    this.folder = mkdtempSync(path.join(os.tmpdir(), 'tidegate-browser-'));
  }

  #spawn(name, args) {
    const log = openSync(path.join(this.folder, `${name}.log`), 'a');
    const child = spawn(this.binary, args, { cwd: this.folder, stdio: ['ignore', 'pipe', log] });
    child.ended = new Promise((done) => child.once('exit', done));
    this.#children.push(child);
    return child;
  }

  // Runs a command of the program on the gateway's config.
  run(...args) {
    const all = ['--json', '--config', path.join(this.folder, 'tidegate.toml'), ...args];
    return execFileSync(this.binary, all, { cwd: this.folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async start() {
    const service = await startService();
    const receiver = await this.#startReceiver();
    const names = [onion(1), onion(2), onion(3)];
    const tor = await startTor(new Map([[names[0], receiver.port], [names[1], service.port]]));
    this.#closing.push(service.stop, tor.stop);
    this.receiver = { url: `http://127.0.0.1:${receiver.port}`, password: receiver.password };

    const [web, admin, broker] = [await freePort(), await freePort(), await freePort()];
    this.url = `http://127.0.0.1:${admin}`;
    this.web = `http://127.0.0.1:${web}`;
    const signal = 'signal = { accept = true, ttl_max = "1h", per_hour = 12 }';
    // Some hours from now, whatever the time of day: closed all along, with openings to show.
    const opens = String((new Date().getUTCHours() + 12) % 24).padStart(2, '0');
    const config = `version = 1
state_dir = "state"
[mqtt]
embedded = true
host = "127.0.0.1"
port = ${broker}
[http]
listen = "127.0.0.1:${web}"
requests_per_minute = 100000
[admin]
listen = "127.0.0.1:${admin}"
[tor]
transport = "socks"
socks = "127.0.0.1:${tor.port}"
[clock]
trust = "assume"
[log]
filter = "warn"
[[route]]
topic = "readings/{destination}/{device}"
[destination.cardiology]
onion = "${names[0]}:80"
write_key = { file = "gateway.write_key" }
receipt_key = "${receiver.receiptKey}"
${signal}
[destination.laboratory]
onion = "${names[1]}:80"
format = "raw"
order = "none"
${signal}
[destination.ward]
onion = "${names[2]}:80"
format = "raw"
windows = { timezone = "Europe/Madrid", allow = [{ days = "daily", from = "${opens}:15", to = "${opens}:45" }] }
lifetime = { max_age = "400d" }
${signal}
`;
    writeFileSync(path.join(this.folder, 'tidegate.toml'), config);
    this.#spawn('gateway', ['--config', 'tidegate.toml', 'run']);
    await until('the gateway', async () => (await fetch(`${this.url}/readyz`)).ok);
    this.token = readFileSync(path.join(this.folder, 'state/admin.token'), 'utf8').trim();
    // One that was made at run time: its agreement can be changed on pages.
    this.spare = onion(4);
    const windows = { timezone: 'Europe/Madrid', allow: [{ days: 'mon-fri', from: '22:00', to: '02:00' }] };
    await this.put('pharmacy', { onion: this.spare, receiver_memory: '30d', windows }, { 'if-none-match': '*' });
    await this.#fill(broker);
  }

  // Makes or changes a destination through the API, as somebody else would.
  async put(name, body, headers) {
    const all = { authorization: `Bearer ${this.token}`, 'content-type': 'application/json', ...headers };
    const place = `${this.url}/api/v1/destinations/${name}`;
    const answer = await fetch(place, { method: 'PUT', headers: all, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${name}: ${answer.status} ${await answer.text()}`);
  }

  async #startReceiver() {
    const port = await freePort();
    const args = ['--json', 'receiver', '--folder', 'receiver', '--destination', 'cardiology', '--listen', `127.0.0.1:${port}`];
    const child = this.#spawn('receiver', args);
    for await (const line of readline.createInterface({ input: child.stdout })) {
      const said = JSON.parse(line);
      if (said.receipt_key === undefined) continue;
      const [key] = said.new_write_key_files;
      writeFileSync(path.join(this.folder, 'gateway.write_key'), readFileSync(path.resolve(this.folder, key)), { mode: 0o600 });
      return { port, password: said.new_password, receiptKey: said.receipt_key };
    }
    throw new Error('the receiver did not start');
  }

  async ask(place) {
    const answer = await fetch(`${this.url}${place}`, { headers: { authorization: `Bearer ${this.token}` } });
    if (!answer.ok) throw new Error(`${place}: ${answer.status}`);
    return answer.json();
  }

  async #handIn(destination, device, body, type = 'text/plain') {
    const place = `${this.web}/v1/messages/${destination}?device=${device}`;
    const answer = await fetch(place, { method: 'PUT', body, headers: { 'content-type': type } });
    if (!answer.ok) throw new Error(`${destination}: ${answer.status} ${await answer.text()}`);
  }

  async #fill(broker) {
    const devices = ['bed-1', 'bed-2', 'pacemaker', LONG];
    for (let number = 0; number < DELIVERED; number += 1) {
      await this.#handIn('cardiology', devices[number % 3], `${60 + ((number * 7) % 31)}`);
    }
    await this.#handIn('cardiology', LONG, 'a text that is long and has no blank: '.padEnd(400, 'x'));
    await this.#handIn('cardiology', 'bed-1', Buffer.from([0, 255, 254, 1]), 'application/octet-stream');
    await this.#handIn('laboratory', 'analyser', 'fine');
    for (let number = 0; number < REFUSED; number += 1) {
      await this.#handIn('laboratory', 'analyser', `unwell ${number}`);
      await this.#handIn('laboratory', 'freezer', `gone ${number}`);
      await this.#handIn('laboratory', 'analyser', `fine ${number}`);
    }
    for (let number = 0; number < WARD; number += 1) {
      await this.#handIn('ward', devices[number % devices.length], `reading ${number}`);
    }
    const odd = ['readings/nowhere/bed-1', 'readings/<img src=x onerror=alert(1)>/bed-1', `readings/${LONG}-${LONG}/bed-2`];
    await publish(broker, odd.map((topic) => [topic, '1']));
    const state = (views, name) => views.find((view) => view.destination === name)?.load ?? {};
    const settled = async () => {
      const answer = await this.ask('/api/v1/destinations');
      const views = Array.isArray(answer) ? answer : answer.items ?? answer.destinations;
      const laboratory = state(views, 'laboratory');
      this.seen = JSON.stringify(views.map((view) => [view.destination, view.load]));
      return state(views, 'cardiology').delivered === DELIVERED + 2 && laboratory.parked === REFUSED
        && laboratory.dead === REFUSED && state(views, 'ward').queued === WARD;
    };
    await until('the deliveries', settled).catch((error) => {
      throw new Error(`${error.message}\n${this.seen}`);
    });
    this.run('device', 'add', 'infusion-pump', '--destinations', 'ward');
    this.reader = this.#newToken('reader', 'read');
    this.operator = this.#newToken('night-shift', 'operate');
    const stranger = await fetch(`${this.url}/api/v1/status`, { headers: { authorization: 'Bearer wrong' } });
    if (stranger.status !== 401) throw new Error('a wrong token is let in');
  }

  #newToken(name, scope) {
    const said = JSON.parse(this.run('token', 'add', name, '--scope', scope));
    if (!said.token) throw new Error(`no token in ${Object.keys(said)}`);
    return said.token;
  }

  // What the program's own table of the console's routes has.
  routes() {
    return JSON.parse(this.run('console-routes'));
  }

  async stop() {
    for (const child of this.#children.reverse()) {
      child.kill('SIGTERM');
      const ended = await Promise.race([child.ended.then(() => true), limit(20_000)]);
      if (!ended) child.kill('SIGKILL');
    }
    this.#closing.forEach((close) => close());
    rmSync(this.folder, { recursive: true, force: true });
  }
}
