// Publishes over MQTT 3.1.1 at QoS 1: just enough for a device that hands in what belongs nowhere.

import net from 'node:net';

const text = (it) => {
  const bytes = Buffer.from(it);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
};

function packet(first, ...parts) {
  const body = Buffer.concat(parts);
  const length = [];
  for (let rest = body.length; ; ) {
    const digit = rest % 128;
    rest = Math.floor(rest / 128);
    length.push(rest > 0 ? digit | 128 : digit);
    if (rest === 0) break;
  }
  return Buffer.concat([Buffer.from([first, ...length]), body]);
}

// Publishes the messages, `[topic, body]`, and returns when the broker has acknowledged each.
export function publish(port, messages) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    let held = Buffer.alloc(0);
    let acknowledged = 0;
    socket.setTimeout(10_000, () => socket.destroy(new Error('the broker does not answer')));
    socket.on('error', reject);
    socket.on('connect', () => {
      const level = Buffer.from([4, 2, 0, 60]);
      socket.write(packet(0x10, text('MQTT'), level, text('browser-tests')));
    });
    socket.on('data', (part) => {
      held = Buffer.concat([held, part]);
      // Each packet that comes back has four bytes.
      for (; held.length >= 4; held = held.subarray(4)) {
        if (held[0] === 0x20) {
          if (held[3] !== 0) return socket.destroy(new Error('the broker lets nobody in'));
          messages.forEach(([topic, body], index) => {
            socket.write(packet(0x32, text(topic), Buffer.from([0, index + 1]), Buffer.from(body)));
          });
        } else if (held[0] === 0x40) {
          acknowledged += 1;
        }
      }
      if (acknowledged === messages.length) {
        socket.end(packet(0xe0));
        resolve();
      }
    });
  });
}
