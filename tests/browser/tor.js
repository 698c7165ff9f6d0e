// A stand-in for a system tor: a SOCKS5 port on loopback that leads each onion name to a port of this machine, as the tests say.
// It takes a user name and a password, as the gateway asks of a tor, and knows nothing else. No Tor network is needed or reached.

import net from 'node:net';

const VERSION = 5;
const PASSWORD = 2;
const UNREACHABLE = 0xf0;

// Listens on a free port; `places` maps names that end with .onion to ports of 127.0.0.1.
export async function startTor(places) {
  const server = net.createServer((socket) => {
    socket.on('error', () => socket.destroy());
    serve(socket, places).catch(() => socket.destroy());
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { port: server.address().port, stop: () => server.close() };
}

async function serve(socket, places) {
  const take = reader(socket);
  const [, methods] = await take(2);
  await take(methods);
  socket.write(Buffer.from([VERSION, PASSWORD]));
  const [, user] = await take(2);
  await take(user);
  const [password] = await take(1);
  await take(password);
  socket.write(Buffer.from([1, 0]));
  const [, , , kind] = await take(4);
  if (kind !== 3) throw new Error('an onion service has a name');
  const [length] = await take(1);
  const name = (await take(length)).toString();
  await take(2);
  const port = places.get(name);
  const answer = (code) => socket.write(Buffer.from([VERSION, code, 0, 1, 127, 0, 0, 1, 0, 80]));
  if (port === undefined) {
    answer(UNREACHABLE);
    return socket.end();
  }
  const service = net.connect(port, '127.0.0.1', () => {
    answer(0);
    take.rest().forEach((part) => service.write(part));
    socket.pipe(service).pipe(socket);
  });
  service.on('error', () => socket.destroy());
}

// Takes exactly so many bytes at a time; what came beyond them is the rest.
function reader(socket) {
  let held = Buffer.alloc(0);
  let wake = () => {};
  const more = (part) => {
    held = Buffer.concat([held, part]);
    wake();
  };
  socket.on('data', more);
  socket.on('close', () => wake());
  const take = async (count) => {
    while (held.length < count) {
      if (socket.destroyed) throw new Error('closed');
      await new Promise((resolve) => (wake = resolve));
    }
    const taken = held.subarray(0, count);
    held = held.subarray(count);
    return taken;
  };
  take.rest = () => {
    socket.off('data', more);
    return held.length > 0 ? [held] : [];
  };
  return take;
}
