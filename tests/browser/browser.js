// Chromium, headless, that reaches the gateway and the receiver on this machine and nothing else. What a page asks for beyond them,
// an error in its console, a broken policy: each is a fault.

import { existsSync } from 'node:fs';
import { tools } from './tools.js';

const { chromium } = tools('playwright-core');
const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

export async function launch() {
  if (!existsSync(EXECUTABLE)) {
    throw new Error(`there is no ${EXECUTABLE}: run '.ci/setup browser', or name a Chromium by CHROMIUM=`);
  }
  const args = [
    // No name but the two addresses can be resolved, whoever asks: also the browser itself.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    '--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage', '--no-pings',
  ];
  // Its sandbox needs user namespaces, which root doesn't get there. What it shows here is our own.
  if (process.getuid() === 0) args.push('--no-sandbox');
  return chromium.launch({ executablePath: EXECUTABLE, args });
}

// Somebody's browser window. `faults` is told of all that is wrong.
export async function open(browser, origins, faults, options = {}) {
  const context = await browser.newContext({ serviceWorkers: 'block', ...options });
  context.setDefaultTimeout(10_000);
  const asked = new Set(origins);
  await context.route('**/*', (route) => {
    const url = new URL(route.request().url());
    if (asked.has(url.origin)) return route.continue();
    faults.add(`a page asks for ${url.origin}: ${route.request().frame().url()}`);
    return route.abort();
  });
  const page = await context.newPage();
  // Addresses whose answer is meant to be a refusal; browsers log these as errors.
  page.refusals = new Set();
  page.on('console', (message) => {
    const at = message.location().url;
    const refused = /status of 4\d\d/.test(message.text()) && page.refusals.has(new URL(at || 'about:blank').pathname);
    // What is of type debug is a browser's advice, not an error.
    if (['error', 'warning', 'assert'].includes(message.type()) && !refused) faults.add(`browser console, ${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.add(`script error, ${page.url()}: ${error.message}`));
  page.on('dialog', (dialog) => {
    faults.add(`a dialog, ${page.url()}: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('response', (answer) => {
    const url = new URL(answer.url());
    if (answer.status() >= 400 && !page.refusals.has(url.pathname)) faults.add(`${answer.status()}: ${url.pathname}${url.search}`);
  });
  page.on('requestfailed', (request) => {
    const why = request.failure()?.errorText ?? '';
    if (why !== 'net::ERR_ABORTED') faults.add(`not loaded: ${request.url()}: ${why}`);
  });
  return page;
}

// Faults, each once.
export class Faults {
  #all = new Set();

  add(fault) {
    if (!this.#all.has(fault)) console.error(`fault: ${fault}`);
    this.#all.add(fault);
  }

  check(holds, fault) {
    if (!holds) this.add(fault);
    return holds;
  }

  get count() {
    return this.#all.size;
  }
}
