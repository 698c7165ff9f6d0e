// What a page is judged by in the browser: axe-core, a narrow screen, its pictures.

import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { tools } from './tools.js';

const AXE = readFileSync(tools.resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

// Runs axe in the page that is shown; gives its violations in words. The page's policy lets no script in: this comes by the
// debugger, which asks no policy.
export async function axe(page) {
  const session = await page.context().newCDPSession(page);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await session.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`axe: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  };
  await evaluate(`${AXE}; 0`);
  const options = JSON.stringify({ runOnly: { type: 'tag', values: TAGS }, resultTypes: ['violations', 'passes'] });
  const found = await evaluate(`axe.run(document, ${options}).then((it) => ({
    passes: it.passes.length,
    violations: it.violations.map((one) => ({ id: one.id, help: one.help, nodes: one.nodes.map((node) => node.target.join(' ') + ' ' + node.failureSummary) })),
  }))`);
  await session.detach();
  if (found.passes < 10) throw new Error(`axe looked at next to nothing on ${page.url()}`);
  return found.violations.map((one) => `${one.id} (${one.help}): ${one.nodes.slice(0, 3).join(' | ')}`);
}

// How far the page is wider than the screen, in pixels, and by what.
export async function overflow(page, width) {
  await page.setViewportSize({ width, height: 740 });
  return page.evaluate((width) => {
    const over = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - width;
    if (over <= 0) return undefined;
    // What lies in a box that scrolls by itself is not the cause.
    const boxed = (it) => it && (getComputedStyle(it).overflowX !== 'visible' || boxed(it.parentElement));
    const wide = [...document.body.querySelectorAll('*')].filter((it) => it.getBoundingClientRect().right > width && !boxed(it.parentElement));
    return `${over} px too wide at ${width}: ${wide.slice(0, 3).map((it) => `${it.tagName}.${it.className}`)}`;
  }, width);
}

// Pictures of the page, in the colours that are set.
export async function pictures(page, folder, name, scheme) {
  mkdirSync(folder, { recursive: true });
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 800 });
    await page.screenshot({ path: path.join(folder, `${name}-${width}-${scheme}.png`), fullPage: true });
  }
}
