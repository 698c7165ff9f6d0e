// The console and the receiver's pages in Chromium: `make browser`, or `node tests/browser/run.js PROGRAM`. See the README beside
// this file. Prints figures, and ends with 1 for any fault.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Acts, Sent, actAll, lookOnly } from './acts.js';
import { changeAll } from './agreements.js';
import { Faults, launch, open } from './browser.js';
import { canFail } from './html.js';
import { House } from './house.js';
import { byKeyboard } from './keyboard.js';
import { axe } from './looks.js';
import { PAGES, actReceiver, isNoPage } from './receiver.js';
import { fits, judge, look, walk } from './walk.js';

const here = path.dirname(fileURLToPath(import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? path.join(here, '../../target');
const pictures = process.env.BROWSER_PICTURES ?? path.join(target, 'browser');
const program = process.argv[2] ?? path.join(target, 'debug/tidegate');

const began = Date.now();
const faults = new Faults();
const figures = { axe_violations: 0, browser_pages: 0, browser_acts: 0 };
const say = (text) => console.log(`browser: ${((Date.now() - began) / 1000).toFixed(1)} s: ${text}`);
const count = (violations) => (figures.axe_violations += violations);
const name = (place) => place.replace(/^\//, '').replace(/[^a-z0-9]+/gi, '-').replace(/-$/, '') || 'home';

// Both schemes at once: a look at every page in each takes most of the time.
const inBoth = (work) => Promise.all(['light', 'dark'].map(work));

// A page that must be found faulty, or axe does not work here.
async function axeCanFail(page) {
  await page.setContent('<html><head></head><body><img src="data:,"><p style="color:#aaa;background:#fff">pale</p><input></body></html>');
  const found = await axe(page).catch(() => ['little to look at']);
  faults.check(found.length > 0, 'axe finds nothing on a page that is full of faults');
}

async function theConsole(browser, house) {
  const routes = house.routes();
  const origins = [house.url];
  const reads = routes.filter((it) => it.method === 'GET' && !it.path.includes('/assets/')).map((it) => it.path);
  const forms = routes.filter((it) => it.method === 'POST').map((it) => it.path);
  // The longest prefix without captures is the closest.
  const kind = (to) => reads.filter((it) => fits(it, to)).sort((a, b) => a.split('{').length - b.split('{').length)[0];
  const looked = new Map();

  for (const javaScriptEnabled of [false, true]) {
    const who = `JavaScript ${javaScriptEnabled ? 'on' : 'off'}`;
    const page = await open(browser, origins, faults, { javaScriptEnabled });
    const sent = new Sent();
    sent.watch(page);
    page.refusals.add('/console/login');
    await judge(await page.goto(`${house.url}/console/login`), faults);
    await new Acts(page, house.url, faults, who).logIn(house.token);
    const found = await walk(page, '/console', kind, faults);
    found.kinds.add('/console/login');
    reads.filter((it) => !found.kinds.has(it)).forEach((it) => faults.add(`${who}: no link leads to ${it}`));
    found.places.forEach((it) => looked.set(it.place, it));
    say(`${who}: ${found.places.length} addresses of ${found.kinds.size} pages`);
    figures.browser_acts += await actAll(page, house, faults, who, javaScriptEnabled ? house.token : house.operator);
    figures.browser_acts += await changeAll(page, house, faults, who, javaScriptEnabled);
    figures.browser_acts += await byKeyboard(page, house, house.operator, faults);
    forms.filter((it) => !sent.did(it)).forEach((it) => faults.add(`${who}: nothing was sent to ${it}`));
    const acts = sent.acts('/console/outbox/{destination}/{seq}/{act}');
    ['hold', 'release', 'retry', 'purge'].filter((it) => !acts.has(it)).forEach((it) => faults.add(`${who}: no ${it}`));
    await page.context().close();
    say(`${who}: acts`);
  }
  const reader = await open(browser, origins, faults);
  await lookOnly(reader, house, faults);
  await reader.context().close();

  const nowhere = { place: '/console/nowhere', pattern: 'nowhere', first: true };
  const told = { place: '/console?done=hold', pattern: 'told', first: true };
  const places = [...looked.values(), nowhere, told];
  await inBoth(async (scheme) => {
    const page = await open(browser, origins, faults, { colorScheme: scheme });
    page.refusals.add('/console/nowhere');
    await page.goto(`${house.url}/console/login`);
    count(await look(page, '/console/login', scheme, faults, pictures, 'console-login'));
    await new Acts(page, house.url, faults, scheme).logIn(house.token);
    for (const { place, first } of places) {
      count(await look(page, place, scheme, faults, pictures, first ? name(place) : undefined));
    }
    await page.context().close();
  });
  say(`${places.length + 1} addresses looked at, light and dark`);
  figures.browser_pages += places.length + 1;
}

async function theReceiver(browser, house) {
  const origins = [house.receiver.url];
  const kind = (to) => PAGES.find((it) => fits(it, to));
  const looked = new Map();
  for (const javaScriptEnabled of [false, true]) {
    const who = `JavaScript ${javaScriptEnabled ? 'on' : 'off'}`;
    const page = await open(browser, origins, faults, { javaScriptEnabled });
    figures.browser_acts += await actReceiver(page, house.receiver, faults, who);
    const found = await walk(page, '/', kind, faults, { script: true, skip: isNoPage });
    PAGES.filter((it) => !found.kinds.has(it)).forEach((it) => faults.add(`${who}: no link leads to the receiver's ${it}`));
    found.places.forEach((it) => looked.set(it.place, it));
    await page.context().close();
  }
  await inBoth(async (scheme) => {
    const page = await open(browser, origins, faults, { colorScheme: scheme });
    ['/', '/login', '/nowhere'].forEach((it) => page.refusals.add(it));
    await page.goto(`${house.receiver.url}/login`);
    count(await look(page, '/login', scheme, faults, pictures, 'receiver-login'));
    await page.getByLabel('Password').fill(house.receiver.password);
    await page.getByRole('button', { name: 'Log in' }).click();
    for (const { place, first } of [...looked.values(), { place: '/nowhere', first: true }]) {
      count(await look(page, place, scheme, faults, pictures, first ? `receiver-${name(place)}` : undefined));
    }
    await page.context().close();
  });
  figures.browser_pages += looked.size + 2;
  say(`the receiver: ${looked.size + 2} addresses looked at, light and dark`);
}

async function main() {
  if (!existsSync(program)) throw new Error(`there is no ${program}: build it with the feature testnet, or name it`);
  canFail(faults);
  const house = new House(path.resolve(program));
  let browser;
  // Nothing that was started here outlives it.
  const close = async () => {
    await browser?.close();
    await house.stop();
  };
  ['SIGINT', 'SIGTERM'].forEach((signal) => process.once(signal, () => close().finally(() => process.exit(1))));
  try {
    browser = await launch();
    say('the browser is there');
    await house.start();
    say('the house is filled');
    const page = await open(browser, [], faults);
    await axeCanFail(page);
    await page.context().close();
    await theConsole(browser, house);
    await theReceiver(browser, house);
  } finally {
    await close();
    say('the house is closed');
  }
  for (const [figure, value] of Object.entries(figures)) {
    console.log(`figure ${figure} ${value} ${figure === 'axe_violations' ? 'violations' : figure.split('_')[1]}`);
  }
  say(`pictures are in ${path.resolve(pictures)}`);
  if (faults.count > 0) throw new Error(`${faults.count} faults, above`);
}

main().catch((error) => {
  console.error(`browser: error: ${error.message}`);
  process.exitCode = 1;
});
