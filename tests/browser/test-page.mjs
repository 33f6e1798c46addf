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
const isGood = await judge('test page', checks(), problems);
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

function logged(selector, text) {
  return page.locator(selector, { hasText: text }).first().waitFor({ state: 'attached', timeout: LIMIT_MS });
}
