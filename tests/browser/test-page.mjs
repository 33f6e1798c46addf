// Proves in a real Chromium that the test page of hoardrun connects, joins a room, and shows what is published there.
//
//   node tests/browser/test-page.mjs PAGE_URL NATS_URL [SCREENSHOT.png]
//
// PAGE_URL is http://…/ws/test#token=…, NATS_URL where the node's events come from. One line per check; the exit code is 0
// when all of them passed, 1 when one did not, 64 for bad usage.

import { randomUUID } from 'node:crypto';
import { LIMIT_MS, judge, launch, open, watch } from './kit.mjs';
import { connect } from './nats.mjs';

const AGAIN_MS = 100;

const [pageUrl, natsUrl, screenshot] = process.argv.slice(2);
if (!pageUrl || !natsUrl) {
  console.error('usage: node test-page.mjs PAGE_URL NATS_URL [SCREENSHOT.png]');
  process.exit(64);
}

const browser = await launch();
const nats = await connect(natsUrl, LIMIT_MS);
const page = await browser.newPage();
const problems = watch(page);
const isGood = await judge('test page', [...checks(), ...troubles(await browser.newPage())], problems);
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
      'it connects, and is greeted',
      async () => {
        await page.click('#connect [type=submit]', { timeout: LIMIT_MS });
        await page.waitForSelector('#status.connected', { timeout: LIMIT_MS });
        await logged('#log li', '"type":"connection_established"');
      },
    ],
    [
      'a button offers join_room, which shows what is published in the room',
      async () => {
        await page.locator('#messages button', { hasText: 'join_room' }).click({ timeout: LIMIT_MS });
        const message = page.locator('#send [name=message]');
        await message.fill((await message.inputValue()).replace('…', room));
        await page.click('#send [type=submit]', { timeout: LIMIT_MS });
        await logged('#log li', `> {"type":"join_room","room":"${room}"}`);
        // The subscription may not be there yet.
        const again = setInterval(publish, AGAIN_MS);
        await logged('#log li', '"type":"market_update"').finally(() => clearInterval(again));
      },
    ],
    [
      'what no rule takes is answered with an error',
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

/** On a page of their own: a refused connection shows in the browser's console, and is no mistake of the page. */
function troubles(other) {
  const connect = async (token, words) => {
    await other.fill('#connect [name=token]', token, { timeout: LIMIT_MS });
    await other.click('#connect [type=submit]', { timeout: LIMIT_MS });
    for (const word of words) await other.locator('#trouble', { hasText: word }).waitFor({ timeout: LIMIT_MS });
  };
  // A signature that fits nothing, and a time long ago.
  const old = ['{"alg":"HS256"}', '{"sub":"u1","role":"user","exp":1600000000}', 'x'];
  const token = old.map((part) => Buffer.from(part).toString('base64url')).join('.');
  return [
    [
      'without a token it says that there is none, and where one goes',
      async () => {
        await open(other, pageUrl.split('#')[0]);
        await connect('', ['probably needs a token', '#token=']);
      },
    ],
    ['of a token that is refused it says why', () => connect(token, ['The node refuses the token', 'signature', 'ago.'])],
    ['of a text that is no token too', () => connect('rubbish', ['The node refuses the token'])],
    [
      'a good one makes it go away',
      async () => {
        const [, good] = pageUrl.split('#token=');
        await connect(good, []);
        await other.locator('#status.connected').waitFor({ timeout: LIMIT_MS });
        await other.locator('#trouble').waitFor({ state: 'hidden', timeout: LIMIT_MS });
      },
    ],
  ];
}

function logged(selector, text) {
  return page.locator(selector, { hasText: text }).first().waitFor({ state: 'attached', timeout: LIMIT_MS });
}
