// Every page, found by its links as a visitor finds it, and compared with the program's own table of routes.

import { faultsOf } from './html.js';
import { axe, overflow, pictures } from './looks.js';

// Addresses of one pattern that are looked at; lists have a link for each message.
const EACH = 3;

// Whether a path is of a pattern such as /console/outbox/{destination}/{seq}.
export function fits(pattern, path) {
  const [wanted, given] = [pattern.split('/'), path.split('/')];
  return wanted.length === given.length && wanted.every((part, at) => part.startsWith('{') ? given[at] !== '' : part === given[at]);
}

const SCRIPTLESS = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

// Looks at what was sent, before a browser made anything of it.
export async function judge(answer, faults, { script = false } = {}) {
  const url = new URL(answer.url());
  const place = url.pathname + url.search;
  const headers = answer.headers();
  const type = headers['content-type'] ?? '';
  if (!faults.check(type.startsWith('text/html'), `${place}: is ${type}`)) return;
  faultsOf(await answer.text(), { script }).forEach((fault) => faults.add(`${place} ${fault}`));
  const policy = headers['content-security-policy'] ?? '';
  faults.check(script ? policy.startsWith("default-src 'none'") : policy === SCRIPTLESS, `${place}: its policy is ${policy}`);
}

// Walks from `start` along all links; gives the addresses, in the order found. `kind` says of which pattern a path is.
export async function walk(page, start, kind, faults, options = {}) {
  const origin = new URL(page.url()).origin;
  const [waiting, seen, counts, kinds] = [[start], new Set([start]), new Map(), new Set()];
  const places = [];
  while (waiting.length > 0) {
    const place = waiting.shift();
    const path = place.split('?')[0];
    const pattern = kind(path);
    if (!faults.check(pattern !== undefined, `a link leads to no route: ${place}`)) continue;
    // That it loads itself is the same everywhere; and of lists with a link for each message, some are enough.
    const query = new URLSearchParams(place.split('?')[1]);
    const one = query.has('live') ? 'live' : `${pattern} ${[...query.keys()]}`;
    const count = counts.get(one) ?? 0;
    if (count >= EACH) continue;
    counts.set(one, count + 1);
    const answer = await page.goto(origin + place);
    faults.check(answer.status() === 200, `${place}: ${answer.status()}`);
    await judge(answer, faults, options);
    kinds.add(pattern);
    places.push({ place, pattern, first: count === 0 || pattern.endsWith('/destinations/{destination}') });
    const links = await page.$$eval('a[href]', (all) => all.map((it) => it.getAttribute('href')));
    for (const link of links) {
      const to = new URL(link, page.url());
      if (!faults.check(to.origin === origin, `${place} links to ${to.origin}`)) continue;
      const next = to.pathname + to.search;
      if (to.hash !== '' && next === place || seen.has(next) || options.skip?.(next)) continue;
      seen.add(next);
      waiting.push(next);
    }
  }
  return { places, kinds };
}

// Looks at a page with all that needs a script of ours in it: axe, both screens. Gives the number of axe's violations.
export async function look(page, place, scheme, faults, folder, name) {
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.goto(new URL(place, page.url()).href, { waitUntil: 'load' });
  // That a page loads itself again is asked for by whoever visits it, and one link stops it (WCAG 2.2.1); axe can't know that.
  const asked = new URLSearchParams(place.split('?')[1]).has('live');
  const violations = (await axe(page)).filter((it) => !(asked && it.startsWith('meta-refresh ')));
  violations.forEach((it) => faults.add(`axe, ${scheme}, ${place}: ${it}`));
  for (const width of [360, 320]) {
    const over = await overflow(page, width);
    faults.check(over === undefined, `${place}: ${over}`);
  }
  const narrow = (await axe(page)).filter((it) => !(asked && it.startsWith('meta-refresh ')));
  narrow.forEach((it) => faults.add(`axe, ${scheme}, at 320 px, ${place}: ${it}`));
  if (name) await pictures(page, folder, name, scheme);
  return violations.length + narrow.length;
}
