// Checks in a real Chromium that the page of `tidegate dev` explains errors and their fix: no token, an expired token, a node
// that stops and starts again with another key.
//
//   node tests/browser/dev-page-errors.mjs PROGRAM [FOLDER_FOR_SCREENSHOTS]
//
// PROGRAM is the built tidegate. It prints one line per check. Exit codes: 0 if all checks pass, 1 if one fails, 64 for wrong
// usage.

import { createHmac } from 'node:crypto';
import { startDev } from './dev.mjs';
import { LIMIT_MS, launch, open, runChecks } from './kit.mjs';

const [program, folder] = process.argv.slice(2);
if (!program) {
  console.error('usage: node dev-page-errors.mjs PROGRAM [FOLDER_FOR_SCREENSHOTS]');
  process.exit(64);
}

const SECRET = 'a key of these checks, and of nothing else';
const KNOWN_KEY = { env: { TIDEGATE_AUTH__HMAC_SECRET: SECRET } };
const base64 = (text) => Buffer.from(text).toString('base64url');

function token(expiresIn) {
  const exp = Math.floor(Date.now() / 1000) + expiresIn;
  const body = `${base64('{"alg":"HS256"}')}.${base64(JSON.stringify({ sub: 'demo', role: 'user', exp }))}`;
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
}

const browser = await launch();
const page = await browser.newPage();
// Rejected and lost connections are expected in the browser's console; uncaught errors of the page are not.
const problems = [];
page.on('pageerror', (error) => problems.push(`uncaught: ${error.message}`));
let dev = await startDev(program, KNOWN_KEY);
const plain = `http://${dev.address}/`;
const isGood = await runChecks('dev page errors', checks(), problems);
await browser.close();
await dev.stop();
process.exit(isGood ? 0 : 1);

function checks() {
  return [
    [
      'without a token the page explains how to get one',
      async () => {
        await open(page, plain);
        await shows('no token', ['has no token', 'tidegate dev']);
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
      'an expired token is reported with its age',
      async () => {
        await page.evaluate((hash) => (location.hash = hash), `token=${token(-86_400)}`);
        await shows('token expired', ['the token has expired', 'It expired 1 day ago.', 'Open the link']);
        await picture('expired');
      },
    ],
    [
      'a malformed token is reported as such',
      async () => {
        await page.evaluate(() => (location.hash = 'token=rubbish'));
        await shows('token rejected', ['malformed']);
      },
    ],
    [
      'when the node stops, the page shows it and the time of the next attempt',
      async () => {
        await page.evaluate((hash) => (location.hash = hash), `token=${token(3600)}`);
        await connected();
        await dev.stop();
        await shows('node unreachable', [`${dev.address} does not answer`, 'still running?', 'Trying again in', '(attempt ']);
        await picture('away');
      },
    ],
    [
      'when the node starts again, the page connects again',
      async () => {
        dev = await startDev(program, { ...KNOWN_KEY, port: Number(new URL(plain).port) });
        await connected();
      },
    ],
    [
      'when the node starts with another key, the page explains the fix and stops reconnecting',
      async () => {
        await dev.stop();
        await shows('node unreachable', ['does not answer']);
        dev = await startDev(program, { port: Number(new URL(plain).port) });
        await shows('token rejected', ['signature does not match', 'makes a new token at each start']);
        if (await page.locator('#retry').textContent()) throw new Error('the page would try again forever');
        await picture('another-key');
        await page.evaluate((hash) => (location.hash = hash), new URL(dev.page).hash.slice(1));
        await connected();
      },
    ],
  ];
}

async function shows(status, words) {
  await page.locator('#status', { hasText: status }).waitFor({ timeout: LIMIT_MS });
  for (const word of words) await page.locator('#error', { hasText: word }).waitFor({ timeout: LIMIT_MS });
}

async function connected() {
  await page.locator('#status.connected').waitFor({ timeout: LIMIT_MS });
  await page.locator('#error').waitFor({ state: 'hidden', timeout: LIMIT_MS });
}

async function picture(name) {
  if (!folder) return;
  for (const [kind, width, colorScheme] of [['desktop', 1100, 'light'], ['phone', 360, 'light'], ['dark', 1100, 'dark']]) {
    await page.setViewportSize({ width, height: 700 });
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: `${folder}/${name}-${kind}.png` });
  }
}
