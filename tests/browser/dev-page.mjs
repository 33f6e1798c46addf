// Checks in a real Chromium that the page of `tidegate dev` shows publications on NATS.
//
//   node tests/browser/dev-page.mjs PAGE_URL NATS_URL [SCREENSHOT.png]
//
// It publishes over its own NATS connection. It prints one line per check. Exit codes: 0 if all checks pass, 1 if one fails,
// 64 for wrong usage. $TIDEGATE_CHROMIUM is the path of a Chromium other than Debian's.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { LIMIT_MS, launch, open, runChecks, watch } from './kit.mjs';
import { connect } from './nats.mjs';

const REPEAT_MS = 1_000;
const ADMIN_USERS = '#channels tr[data-channel="admin.users"] [data-role="data"]';
const AAPL = '#channels tr[data-channel="prices.AAPL"] [data-role="data"]';

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const SNIPPETS = [...README.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);

const [pageUrl, natsUrl, screenshot] = process.argv.slice(2);
if (!pageUrl || !natsUrl) {
  console.error('usage: node dev-page.mjs PAGE_URL NATS_URL [SCREENSHOT.png]');
  process.exit(64);
}
process.exit(await main());

async function main() {
  const browser = await launch();
  const page = await browser.newPage();
  const problems = watch(page);
  let nats;
  try {
    const all = checks(page, async () => (nats ??= await connect(natsUrl, LIMIT_MS)));
    const isGood = await runChecks('dev page', all, problems);
    if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    return isGood ? 0 : 1;
  } finally {
    nats?.close();
    await browser.close();
  }
}

function checks(page, nats) {
  const publish = async (subject, payload) => (await nats()).publish(subject, payload);
  return [
    ['the page opens', () => open(page, pageUrl)],
    ['it shows that it is connected', () => seen(page, { selector: '#status', equals: 'connected' })],
    [
      'the price of AAPL moves twice',
      async () => {
        let last = await seen(page, { selector: AAPL, differsFrom: '' });
        for (let change = 0; change < 2; change += 1) last = await seen(page, { selector: AAPL, differsFrom: last });
      },
    ],
    [
      'a message published on prices.AAPL shows in its row',
      async () => {
        const marker = randomUUID();
        await repeated(
          () => publish('prices.AAPL', { price: 190.1, marker }),
          seen(page, { selector: AAPL, includes: marker }),
        );
      },
    ],
    [
      'a message published on user.demo.notifications shows in the log',
      async () => {
        const title = randomUUID();
        const shown = seen(page, { selector: '#log li', includes: title });
        await Promise.all([publish('user.demo.notifications', { title }), shown]);
      },
    ],
    [
      'a channel that is subscribed with the form shows its publications',
      async () => {
        const marker = randomUUID();
        await page.fill('#subscribe input[name=channel]', 'demo.try', { timeout: LIMIT_MS });
        await page.click('#subscribe [type=submit], #subscribe button:not([type])', { timeout: LIMIT_MS });
        await repeated(
          () => publish('demo.try', { marker }),
          seen(page, { selector: '#channels tr[data-channel="demo.try"] [data-role="data"], #log li', includes: marker }),
        );
      },
    ],
    [
      'the user demo is chosen first, and may not see what is for administrators',
      async () => {
        const offered = await page.locator('#user option').allTextContents();
        if (offered.join() !== 'demo,admin') throw new Error(`the page offers ${offered}`);
        await page.fill('#subscribe input[name=channel]', 'admin.users', { timeout: LIMIT_MS });
        await page.click('#subscribe button', { timeout: LIMIT_MS });
        await seen(page, { selector: '#answer', includes: 'admin.users: ' });
      },
    ],
    [
      'the user admin sees what is published on admin.users, and the prices',
      async () => {
        await page.selectOption('#user select', 'admin', { timeout: LIMIT_MS });
        const marker = randomUUID();
        await repeated(() => publish('admin.users', { online: 42, marker }), seen(page, { selector: ADMIN_USERS, includes: marker }));
        await seen(page, { selector: AAPL, differsFrom: '' });
      },
    ],
    [
      'the user demo sees nothing of that afterwards',
      async () => {
        if (screenshot) await page.screenshot({ path: screenshot.replace(/(\.\w+)?$/, '-admin$1'), fullPage: true });
        await page.selectOption('#user select', 'demo', { timeout: LIMIT_MS });
        await seen(page, { selector: AAPL, differsFrom: '' });
        if (await page.locator(ADMIN_USERS).count()) throw new Error('admin.users is still shown');
      },
    ],
    [
      'each snippet of the README runs in the console of the page, even twice',
      async () => {
        if (!SNIPPETS.length) throw new Error('the README has no snippet');
        for (const snippet of [...SNIPPETS, ...SNIPPETS]) {
          const price = page.waitForEvent('console', { predicate: isPrice, timeout: LIMIT_MS });
          await Promise.all([price, paste(page, adapted(snippet))]);
        }
      },
    ],
    [
      'a long message arrives compressed',
      async () => {
        const agreed = await page.evaluate(
          () =>
            new Promise((resolve, reject) => {
              const socket = new WebSocket(new URL('/ws', location).href.replace(/^http/, 'ws'));
              socket.onerror = () => reject(new Error('the connection failed'));
              socket.onopen = () => {
                resolve(socket.extensions);
                socket.close();
              };
            }),
        );
        if (!agreed.startsWith('permessage-deflate')) throw new Error(`the extensions are ${JSON.stringify(agreed)}`);
        const marker = randomUUID();
        await repeated(
          () => publish('prices.AAPL', { words: 'again and '.repeat(200), marker }),
          seen(page, { selector: AAPL, includes: marker }),
        );
      },
    ],
  ];
}

/** A snippet of the README with this page's token and address. */
function adapted(snippet) {
  const { host, hash } = new URL(pageUrl);
  const token = new URLSearchParams(hash.slice(1)).get('token');
  const changed = snippet.replace('"…"', JSON.stringify(token)).replaceAll('127.0.0.1:8080', host);
  if (!changed.includes(token) || !changed.includes(host)) throw new Error('the snippet has no token or address to replace');
  return changed;
}

/** Runs code as the console of DevTools does: it may declare a name again, unless a script of the page has declared it. */
async function paste(page, expression) {
  const session = await page.context().newCDPSession(page);
  const { exceptionDetails } = await session.send('Runtime.evaluate', { expression, replMode: true });
  await session.detach();
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
}

function isPrice(message) {
  return message.type() === 'log' && message.text().startsWith('prices.');
}

/**
 * Resolves to the text of an element that matches `selector` once the text meets the conditions. A mutation observer sees
 * each state of the page, even one that is replaced before it is painted.
 */
function seen(page, wanted) {
  return page.evaluate(
    ({ wanted: { selector, equals, includes = '', differsFrom }, limitMs }) =>
      new Promise((resolve, reject) => {
        const look = () => {
          for (const element of document.querySelectorAll(selector)) {
            const text = element.textContent.trim();
            const matches = (equals ?? text) === text && text.includes(includes) && text !== differsFrom;
            if (!matches) continue;
            observer.disconnect();
            clearTimeout(timer);
            return resolve(text);
          }
        };
        const observer = new MutationObserver(look);
        const timer = setTimeout(() => {
          observer.disconnect();
          const last = [...document.querySelectorAll(selector)].pop();
          const now = last ? `its text is ${JSON.stringify(last.textContent.trim())}` : 'there is no such element';
          reject(new Error(`${selector} did not match within ${limitMs} ms: ${now}`));
        }, limitMs);
        observer.observe(document, { subtree: true, childList: true, characterData: true });
        look();
      }),
    { wanted, limitMs: LIMIT_MS },
  );
}

/** Calls `act` now and each second until `done` settles: a newer price may replace ours, or NATS lacks the subscription. */
async function repeated(act, done) {
  let stop;
  const acting = new Promise((resolve, reject) => {
    const again = () => act().catch(reject);
    const timer = setInterval(again, REPEAT_MS);
    stop = () => {
      clearInterval(timer);
      resolve();
    };
    again();
  });
  try {
    await Promise.race([done, acting]);
  } finally {
    stop();
  }
}
