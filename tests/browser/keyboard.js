// The way of an operator without a pointer: log in, overview, a message, an act, out. By Tab and Enter alone, and always to be seen
// where one is.

// Stops of Tab on one page before what is looked for counts as out of reach.
const STOPS = 120;

async function focus(page) {
  return page.evaluate(() => {
    const it = document.activeElement;
    const style = getComputedStyle(it);
    const box = it.getBoundingClientRect();
    const seen = box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
    const ring = it.matches(':focus-visible') && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    return { tag: it.tagName, name: it.getAttribute('aria-label') ?? it.textContent.trim(), href: it.getAttribute('href') ?? '', seen, ring };
  });
}

// Presses Tab until the focus is where it is wanted, and looks at each stop.
async function tabTo(page, faults, what, wanted) {
  for (let stop = 0; stop < STOPS; stop += 1) {
    await page.keyboard.press('Tab');
    const at = await focus(page);
    if (at.tag === 'BODY') continue;
    faults.check(at.seen && at.ring, `keyboard, ${page.url()}: the focus on ${at.tag} '${at.name.slice(0, 40)}' can't be seen`);
    if (wanted(at)) return true;
  }
  faults.add(`keyboard, ${page.url()}: no way to ${what}`);
  return false;
}

async function enter(page) {
  const loaded = page.waitForNavigation();
  await page.keyboard.press('Enter');
  await loaded;
}

// Goes the way; gives the number of acts.
export async function byKeyboard(page, house, token, faults) {
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.goto(`${house.url}/console`);
  // The field is where one begins.
  await page.waitForFunction(() => document.activeElement?.id === 'token').catch(() => faults.add('keyboard: the log-in does not begin in its field'));
  await page.keyboard.type(token);
  await enter(page);
  faults.check(new URL(page.url()).pathname === '/console', 'keyboard: the log-in does not lead to the overview');
  await page.keyboard.press('Tab');
  const skip = await focus(page);
  faults.check(skip.href === '#main' && skip.seen && skip.ring, 'keyboard: the first stop is not the way past the navigation');
  await page.keyboard.press('Enter');
  const main = await page.evaluate(() => document.activeElement.id);
  faults.check(main === 'main', `keyboard: the way past the navigation ends in '${main}'`);
  const steps = [
    ['the outbox', (it) => it.href === '/console/outbox'],
    ['a message', (it) => /^\/console\/outbox\/ward\/\d+$/.test(it.href)],
    ['hold', (it) => it.name === 'Hold …'],
    ['confirm that', (it) => it.tag === 'BUTTON' && it.name === 'Hold', 'Held:'],
    ['release', (it) => it.name === 'Release …'],
    ['confirm this', (it) => it.tag === 'BUTTON' && it.name === 'Release', 'Released:'],
  ];
  for (const [what, wanted, result] of steps) {
    if (!(await tabTo(page, faults, what, wanted))) return 0;
    await enter(page);
    const said = result && (await page.getByRole('status').innerText());
    faults.check(!result || said.startsWith(result), `keyboard: ${what}: it says '${said}'`);
  }
  if (!(await tabTo(page, faults, 'log out', (it) => it.tag === 'BUTTON' && it.name === 'Log out'))) return 3;
  await enter(page);
  faults.check(new URL(page.url()).pathname === '/console/login', 'keyboard: not logged out');
  return 4;
}
