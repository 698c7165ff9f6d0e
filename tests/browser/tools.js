// Where .ci/setup put what drives a browser: with the other tools that it builds, outside of the checkout.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

const lab = process.env.TIDEGATE_LAB ?? path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'tidegate-lab');
const folder = path.join(lab, 'browser');

if (!existsSync(path.join(folder, 'complete'))) {
  console.error(`browser: error: playwright-core and axe-core are not in ${folder}: run '.ci/setup browser'`);
  process.exit(1);
}

// Loads a package from there, or finds a file of it.
export const tools = createRequire(path.join(folder, 'package.json'));
