// Every form of the console, sent as a person sends it, and its result read from the page.

import { fits, judge } from './walk.js';

// What was sent, so that no route that takes a form can be forgotten.
export class Sent {
  #all = [];

  watch(page) {
    page.on('response', (answer) => {
      const request = answer.request();
      if (request.method() === 'POST') this.#all.push({ path: new URL(request.url()).pathname, status: answer.status() });
    });
  }

  // Whether a form to this pattern did what it should: the answer to that is a redirect, or the page that asks whether it is meant.
  did(pattern) {
    const asks = /\/(preview|edit|add-destination)$/.test(pattern);
    return this.#all.some((it) => it.status === (asks ? 200 : 303) && fits(pattern, it.path));
  }

  acts(pattern) {
    return new Set(this.#all.filter((it) => it.status === 303 && fits(pattern, it.path)).map((it) => it.path.split('/').at(-1)));
  }
}

export class Acts {
  constructor(page, url, faults, who) {
    Object.assign(this, { page, url, faults, who, done: 0 });
  }

  async go(place) {
    return this.page.goto(this.url + place);
  }

  // One act, and what its page says then.
  async act(name, work, words) {
    try {
      await work();
      const text = await this.page.locator('main').innerText();
      for (const word of [words].flat()) {
        if (!text.includes(word)) throw new Error(`the page does not say '${word}': ${text.slice(0, 300).replaceAll('\n', ' / ')}`);
      }
      this.done += 1;
    } catch (error) {
      this.faults.add(`${this.who}: ${name}: ${error.message}`);
    }
  }

  press(name) {
    return this.page.getByRole('button', { name, exact: true }).click();
  }

  follow(name) {
    return this.page.getByRole('link', { name, exact: true }).click();
  }

  async fact(name) {
    return this.page.locator(`dt:text-is("${name}") + dd`).innerText();
  }

  // An act on a message: from its page, by the page that asks, to the page that tells.
  async onMessage(place, button, words, state) {
    await this.act(`${button}: ${place}`, async () => {
      await this.go(place);
      await this.follow(`${button} …`);
      await this.press(button);
      if (state && (await this.fact('State')) !== state) throw new Error(`its state is ${await this.fact('State')}`);
    }, words);
  }

  async logIn(token) {
    await this.go('/console/login');
    await this.page.getByLabel('Token').fill(token);
    await this.press('Log in');
  }

  // Places of messages in a state, as the outbox lists them.
  async messages(state, destination) {
    await this.go('/console/outbox');
    await this.page.getByLabel('State').selectOption(state);
    await this.page.getByLabel('Destination').selectOption(destination);
    await this.press('Show');
    return this.page.$$eval('tbody th a', (all) => all.map((it) => it.getAttribute('href')));
  }
}

// All of them, by somebody who may; `house` has been filled.
export async function actAll(page, house, faults, who, token) {
  const it = new Acts(page, house.url, faults, who);
  page.refusals.add('/console/login');
  await page.context().clearCookies();
  await it.act('a wrong token', () => it.logIn('wrong'), 'That is no token of this gateway.');
  await it.act('log in', () => it.logIn(token), ['Overview', 'laboratory']);
  await it.act('log in leads to what was asked for', async () => {
    await page.context().clearCookies();
    await it.go('/console/audit');
    await page.getByLabel('Token').fill(token);
    await it.press('Log in');
    if (new URL(page.url()).pathname !== '/console/audit') throw new Error(`it leads to ${page.url()}`);
  }, 'Audit');

  const [queued] = await it.messages('queued', 'ward');
  await it.onMessage(queued, 'Hold', 'Held:', 'held');
  await it.onMessage(queued, 'Release', 'Released:', 'queued');
  await it.act('not to purge', async () => {
    await it.go(queued);
    await it.follow('Purge …');
    await it.follow('No: back to the message');
  }, 'Why it is where it is');
  await it.onMessage(queued, 'Purge', 'Purged:');
  await it.act('what is purged', () => it.go(queued), ['purged', 'In the ledger']);
  const parked = await it.messages('parked', 'laboratory');
  await it.onMessage(parked[0], 'Try again', 'It is tried again');
  await it.onMessage(parked[1], 'Hold', 'Held:', 'held');
  const dead = await it.messages('dead', 'laboratory');
  await it.onMessage(dead[0], 'Try again', 'It is tried again');
  await it.onMessage(dead[1], 'Purge', 'Purged:');
  await it.act('what is refused is told', async () => {
    // Two windows: in the other one the message is held already.
    await it.go(parked[1]);
    await it.follow('Release …');
    const asked = page.url();
    await it.press('Release');
    page.refusals.add(new URL(asked).pathname);
    await page.goto(asked);
    const answer = page.waitForResponse((one) => one.request().method() === 'POST');
    await it.press('Release');
    await judge(await answer, faults);
    if ((await answer).status() !== 409) throw new Error(`the answer is ${(await answer).status()}`);
  }, 'Overview');

  const ward = '/console/destinations/ward';
  await it.act('pause', async () => {
    await it.go(ward);
    await it.press('Pause');
  }, ['Paused:', 'Resume']);
  await it.act('resume', () => it.press('Resume'), ['It goes on.', 'Pause']);
  const signal = async (word, length) => {
    await page.getByRole('combobox', { name: /^It is/ }).selectOption(word);
    await page.getByLabel('for', { exact: true }).fill(length);
    await it.press('Signal');
  };
  await it.act('signal: not now', () => signal('not_now', '30m'), ['The signal is taken.', 'not now, for']);
  await it.act('signal: clear', () => signal('clear', ''), ['The signal is taken.', 'none holds']);
  await it.go('/console/destinations/laboratory');
  await it.act('signal: ready', () => signal('ready', '10m'), ['The signal is taken.', 'ready, for']);
  page.refusals.add('/console/destinations/laboratory/signal');
  await it.act('a signal that is none', () => signal('ready', 'never'), 'write it as');

  await it.act('filter by device', async () => {
    await it.go('/console/outbox');
    await page.getByLabel('Device').fill('bed-2');
    await it.press('Show');
    const devices = await page.$$eval('td[data-name="Device"]', (all) => all.map((one) => one.textContent.trim()));
    if (devices.length === 0 || devices.some((one) => one !== 'bed-2')) throw new Error(`it shows ${devices}`);
  }, 'ward/');
  await it.act('more, and back to the beginning', async () => {
    await it.go('/console/outbox?destination=ward');
    const first = await page.locator('tbody th').first().innerText();
    await it.follow('More');
    if ((await page.locator('tbody th').first().innerText()) === first) throw new Error('the next page is the same');
    await it.follow('Beginning');
    if ((await page.locator('tbody th').first().innerText()) !== first) throw new Error('the beginning is another');
  }, 'More');
  await it.act('load by itself', async () => {
    await it.go('/console');
    await it.follow('Load every 15 s');
    if ((await page.locator('meta[http-equiv="refresh"]').count()) !== 1) throw new Error('it does not');
    await it.follow('Stop loading by itself');
    if ((await page.locator('meta[http-equiv="refresh"]').count()) !== 0) throw new Error('it does not stop');
    await it.follow('Load again');
  }, 'Overview');
  await it.act('what was done is on record', () => it.go('/console/audit'), ['entry.hold', 'entry.purge', 'pause', 'signal']);
  await it.act('log out', () => it.press('Log out'), 'Log in');
  await it.act('out means out', async () => {
    await it.go('/console/outbox');
    if (!page.url().endsWith('/console/login?next=%2Fconsole%2Foutbox')) throw new Error(`it shows ${page.url()}`);
  }, 'Log in');
  return it.done;
}

// Somebody who may only look is offered nothing else.
export async function lookOnly(page, house, faults) {
  const it = new Acts(page, house.url, faults, 'a reader');
  await it.logIn(house.reader);
  for (const place of ['/console/destinations/ward', (await it.messages('queued', 'ward'))[0]]) {
    await it.go(place);
    const forms = await page.$$eval('main form[method="post"], main a.button', (all) => all.length);
    faults.check(forms === 0, `a reader is offered ${forms} acts on ${place}`);
  }
}
