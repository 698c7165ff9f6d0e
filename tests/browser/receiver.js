// The receiver's pages: every one that links lead to, its log-in and its switch. They have one script of their own and are whole
// without it.

import { Acts } from './acts.js';
import { judge } from './walk.js';

// The patterns of its pages.
export const PAGES = ['/', '/devices', '/devices/{number}', '/readings/{number}'];
// Downloads and pictures are no pages.
export const isNoPage = (place) => /\/(body|chart)|^\/(assets|v1)\//.test(place);

export async function actReceiver(page, receiver, faults, who) {
  const it = new Acts(page, receiver.url, faults, `${who}, receiver`);
  ['/', '/login'].forEach((path) => page.refusals.add(path));
  const password = async (text) => {
    await page.getByLabel('Password').fill(text);
    await it.press('Log in');
  };
  await it.act('a wrong password', async () => {
    await judge(await it.go('/'), faults, { script: true });
    await password('wrong');
  }, 'That is not the password');
  await it.act('log in', () => password(receiver.password), 'Readings');
  await it.act('pause', async () => {
    await it.follow('Pause');
    await page.getByText('Paused.').waitFor();
    await it.follow('Go on');
    await page.getByRole('link', { name: 'Pause' }).waitFor();
  }, 'Readings');
  await it.act('log out', () => it.press('Log out'), 'Log in to read');
  await it.go('/');
  await password(receiver.password);
  return it.done;
}
