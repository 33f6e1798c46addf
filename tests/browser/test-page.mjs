// Checks in a real Chromium that the test page of hoardrun connects, joins a room, and shows the room's publications.
//
//   node tests/browser/test-page.mjs PAGE_URL NATS_URL [SCREENSHOT.png]
//
// PAGE_URL is http://…/ws/test#token=…, and NATS_URL is the node's NATS server. It prints one line per check. Exit codes: 0
// if all checks pass, 1 if one fails, 64 for wrong usage.

import { randomUUID } from 'node:crypto';
import { LIMIT_MS, launch, open, runChecks, watch } from './kit.mjs';
import { connect } from './nats.mjs';

const REPEAT_MS = 100;

const [pageUrl, natsUrl, screenshot] = process.argv.slice(2);
if (!pageUrl || !natsUrl) {
  console.error('usage: node test-page.mjs PAGE_URL NATS_URL [SCREENSHOT.png]');
  process.exit(64);
}

const browser = await launch();
const nats = await connect(natsUrl, LIMIT_MS);
const page = await browser.newPage();
const problems = watch(page);
const isGood = await runChecks('test page', [...checks(), ...errorChecks(await browser.newPage())], problems);
if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
nats.close();
await browser.close();
process.exit(isGood ? 0 : 1);

function checks() {
  const room = `room-${randomUUID()}`;
  const publish = () => nats.publish(`room.${room}`, { symbol: 'AAPL', price: 190.1 });
  return [
    ['the page opens', () => open(page, pageUrl)],
    ['it has the path of the vocabulary', () => logged('option', '/ws/notifications')],
    [
      'it connects, and shows the first message',
      async () => {
        await page.click('#connect [type=submit]', { timeout: LIMIT_MS });
        await page.waitForSelector('#status.connected', { timeout: LIMIT_MS });
        await logged('#log li', '"type":"connection_established"');
      },
    ],
    [
      'a button offers join_room, and then the page shows publications in the room',
      async () => {
        // There is one for each rule: the room market_data, and any room.
        const join = page.locator('#messages button', { hasText: 'join_room' });
        await join.last().click({ timeout: LIMIT_MS });
        const message = page.locator('#send [name=message]');
        await message.fill((await message.inputValue()).replace('…', room));
        await page.click('#send [type=submit]', { timeout: LIMIT_MS });
        await logged('#log li', `> {"type":"join_room","room":"${room}"}`);
        // NATS may not have the subscription yet.
        const again = setInterval(publish, REPEAT_MS);
        await logged('#log li', '"type":"market_update"').finally(() => clearInterval(again));
      },
    ],
    [
      'a message without a rule gets an error',
      async () => {
        await page.fill('#send [name=message]', '{"type":"dance"}', { timeout: LIMIT_MS });
        await page.click('#send [type=submit]', { timeout: LIMIT_MS });
        await logged('#log li', 'Unknown message type: dance');
      },
    ],
    [
      'it closes',
      async () => {
        await page.click('#close', { timeout: LIMIT_MS });
        await logged('#log li', 'closed: ');
      },
    ],
  ];
}

/** They use another page, because rejected connections are errors in the browser's console. */
function errorChecks(other) {
  const connect = async (token, words) => {
    await other.fill('#connect [name=token]', token, { timeout: LIMIT_MS });
    await other.click('#connect [type=submit]', { timeout: LIMIT_MS });
    for (const word of words) await other.locator('#error', { hasText: word }).waitFor({ timeout: LIMIT_MS });
  };
  // Its signature is invalid, and it has expired long ago.
  const old = ['{"alg":"HS256"}', '{"sub":"u1","role":"user","exp":1600000000}', 'x'];
  const token = old.map((part) => Buffer.from(part).toString('base64url')).join('.');
  return [
    [
      'without a token it explains where to put one',
      async () => {
        await open(other, pageUrl.split('#')[0]);
        await connect('', ['probably needs a token', '#token=']);
      },
    ],
    ['it shows why a token is rejected', () => connect(token, ['The node rejects the token', 'signature', 'ago.'])],
    ['a malformed token is rejected as well', () => connect('rubbish', ['The node rejects the token'])],
    [
      'a valid token clears the error',
      async () => {
        const [, good] = pageUrl.split('#token=');
        await connect(good, []);
        await other.locator('#status.connected').waitFor({ timeout: LIMIT_MS });
        await other.locator('#error').waitFor({ state: 'hidden', timeout: LIMIT_MS });
      },
    ],
  ];
}

function logged(selector, text) {
  return page.locator(selector, { hasText: text }).first().waitFor({ state: 'attached', timeout: LIMIT_MS });
}
