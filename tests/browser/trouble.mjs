// Proves in a real Chromium that the page of `tidegate dev` says what is wrong and what to do: no token, a token of
// yesterday, a node that is away and comes back with another key.
//
//   node tests/browser/trouble.mjs PROGRAM [FOLDER_FOR_SCREENSHOTS]
//
// PROGRAM is the built tidegate. One line per check; the exit code is 0 when all of them passed, 1 when one did not, 64 for
// bad usage.

import { createHmac } from 'node:crypto';
import { startDev } from './dev.mjs';
import { LIMIT_MS, judge, launch, open } from './kit.mjs';

const [program, folder] = process.argv.slice(2);
if (!program) {
  console.error('usage: node trouble.mjs PROGRAM [FOLDER_FOR_SCREENSHOTS]');
  process.exit(64);
}

const SECRET = 'a key of these checks, and of nothing else';
const KNOWN_KEY = { env: { TIDEGATE_AUTH__HMAC_SECRET: SECRET } };
const base64 = (text) => Buffer.from(text).toString('base64url');

function token(expiresIn) {
  const exp = Math.floor(Date.now() / 1000) + expiresIn;
  const body = `${base64('{"alg":"HS256"}')}.${base64(JSON.stringify({ sub: 'demo', role: 'demo', exp }))}`;
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
}

const browser = await launch();
const page = await browser.newPage();
// A refused or lost connection shows in the console, which is as it should be; a mistake of the page does not.
const problems = [];
page.on('pageerror', (error) => problems.push(`uncaught: ${error.message}`));
let dev = await startDev(program, KNOWN_KEY);
const plain = `http://${dev.address}/`;
const isGood = await judge('trouble', checks(), problems);
await browser.close();
await dev.stop();
process.exit(isGood ? 0 : 1);

function checks() {
  return [
    [
      'a page without a token says so, and what to do',
      async () => {
        await open(page, plain);
        await says('no token', ['has no token', 'tidegate dev']);
        await picture('no-token');
      },
    ],
    [
      'a link pasted into the same tab connects without a reload',
      async () => {
        await page.evaluate((hash) => (location.hash = hash), `token=${token(3600)}`);
        await connected();
      },
    ],
    [
      'a token of yesterday is called expired, and how long ago',
      async () => {
        await page.evaluate((hash) => (location.hash = hash), `token=${token(-86_400)}`);
        await says('token expired', ['the token has expired', 'It expired 1 day ago.', 'Open the link']);
        await picture('expired');
      },
    ],
    [
      'a token that is none is called malformed',
      async () => {
        await page.evaluate(() => (location.hash = 'token=rubbish'));
        await says('token refused', ['malformed']);
      },
    ],
    [
      'the node goes away: the page says so, and when it tries again',
      async () => {
        await page.evaluate((hash) => (location.hash = hash), `token=${token(3600)}`);
        await connected();
        await dev.stop();
        await says('node away', [`${dev.address} does not answer`, 'still running?', 'Trying again in', '(attempt ']);
        await picture('away');
      },
    ],
    [
      'it comes back, and the page too',
      async () => {
        dev = await startDev(program, { ...KNOWN_KEY, port: Number(new URL(plain).port) });
        await connected();
      },
    ],
    [
      'it comes back with another key: the tab of yesterday says what to do, and stops',
      async () => {
        await dev.stop();
        await says('node away', ['does not answer']);
        dev = await startDev(program, { port: Number(new URL(plain).port) });
        await says('token refused', ['signature does not fit', 'makes a new token at each start']);
        if (await page.locator('#retry').textContent()) throw new Error('it would try again for ever');
        await picture('another-key');
        await page.evaluate((hash) => (location.hash = hash), new URL(dev.page).hash.slice(1));
        await connected();
      },
    ],
  ];
}

async function says(status, words) {
  await page.locator('#status', { hasText: status }).waitFor({ timeout: LIMIT_MS });
  for (const word of words) await page.locator('#trouble', { hasText: word }).waitFor({ timeout: LIMIT_MS });
}

async function connected() {
  await page.locator('#status.connected').waitFor({ timeout: LIMIT_MS });
  await page.locator('#trouble').waitFor({ state: 'hidden', timeout: LIMIT_MS });
}

async function picture(name) {
  if (!folder) return;
  for (const [kind, width, colorScheme] of [['desktop', 1100, 'light'], ['phone', 360, 'light'], ['dark', 1100, 'dark']]) {
    await page.setViewportSize({ width, height: 700 });
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: `${folder}/${name}-${kind}.png` });
  }
}
