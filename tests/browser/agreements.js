// An agreement from its first form to its end, on pages, as an administrator goes: added, mistaken, previewed, changed at the same time
// as by somebody else, its windows taken away, removed.

import { Acts } from './acts.js';
import { axe } from './looks.js';

// `scripted`: whether pages that only forms lead to can be judged by axe, which is a script of ours.
export async function changeAll(page, house, faults, who, scripted) {
  const it = new Acts(page, house.url, faults, `${who}: agreements`);
  const name = scripted ? 'clinic-on' : 'clinic-off';
  const place = `/console/destinations/${name}`;
  const field = (key) => page.locator(`main [name="${key}"]`);
  const looks = async (what) => {
    if (!scripted) return;
    (await axe(page)).forEach((fault) => faults.add(`axe, ${what}: ${fault}`));
  };
  // What an error says of its field, as a screen reader is told.
  const told = async (key) => {
    if ((await field(key).getAttribute('aria-invalid')) !== 'true') throw new Error(`${key} is not marked`);
    const [id] = (await field(key).getAttribute('aria-describedby')).split(' ');
    return page.locator(`#${id}`).innerText();
  };
  page.refusals.add('/console/add-destination');
  page.refusals.add(`${place}/preview`);

  await it.act('log in', () => it.logIn(house.token), 'Overview');
  await it.act('add: what is missing is told beside its field', async () => {
    await it.go('/console/destinations');
    await it.follow('Add a destination');
    await field('name').fill(name);
    await field('allow').fill('mon-fri 22:00-02:00\nsat,sun # weekends');
    await it.press('Preview');
    if (!(await told('onion')).includes('address')) throw new Error('the address is not asked for');
    if (!(await field('allow').inputValue()).includes('# weekends')) throw new Error('what was typed is gone');
    await looks('a form with a mistake');
  }, 'Nothing was changed');
  await it.act('add: preview', async () => {
    await field('onion').fill(house.spare);
    await it.press('Preview');
    await looks('the preview of a new one');
  }, ['would be added', 'The next openings', 'None waits for it.']);
  await it.act('add: back to the form', () => it.press('Change it further'), 'Add a destination');
  await it.act('add: save', async () => {
    if ((await field('name').inputValue()) !== name) throw new Error('its name is gone');
    await it.press('Preview');
    await it.press('Save');
  }, ['Saved:', 'version 1']);
  await it.act('change: a mistake', async () => {
    await it.follow('Change its agreement');
    if ((await field('onion').inputValue()) !== '') throw new Error('the address is shown');
    await field('lanes').fill('99');
    await it.press('Preview');
    if ((await told('lanes')) === '') throw new Error('nothing is said of the lanes');
  }, 'Nothing was changed');
  await it.act('change: somebody else is faster', async () => {
    await field('lanes').fill('3');
    await it.press('Preview');
    await it.press('Change it further');
    await house.put(name, { lanes: 5 }, { 'if-match': '"1"' });
    await it.press('Preview');
    await looks('two changes at the same time');
  }, ['was changed meanwhile', 'It is at version 2 now', 'Yours']);
  await it.act('change: over it', async () => {
    await it.press('Preview yours over it');
    await it.press('Save');
  }, ['Saved:', 'version 3']);
  await it.act('windows: taken away', async () => {
    await it.follow('Take its windows away');
    await it.press('Always open');
  }, ['Saved:', 'always open']);
  await it.act('not to remove', async () => {
    await it.follow('Remove it');
    await it.follow('No: back to the destinations');
  }, 'Add a destination');
  await it.act('remove', async () => {
    await it.go(`${place}/remove`);
    await it.press('Remove');
  }, 'Removed.');
  await it.act('one of a file is changed there', () => it.go('/console/destinations/ward/edit'), 'change it there');
  await it.act('log out', () => it.press('Log out'), 'Log in');
  return it.done;
}
