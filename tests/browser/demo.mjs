// Checks in a real Chromium that the pages of `make demo` work: each socket opens, messages arrive, each button and each call
// gets its answer, and each snippet of the document runs, if the page has them.
//
//   node tests/browser/demo.mjs PAGE_URL… [--screenshot FILE.png]
//
// It prints one line per check. Exit codes: 0 if all checks pass, 1 if one fails, 64 for wrong usage.

import { parseArgs } from 'node:util';
import { SEEDS } from '../../examples/demo/seeds.mjs';
import { LIMIT_MS, launch, open, runChecks, watch } from './kit.mjs';

/** After this time without a message, no more messages come. The producer must be faster: set $EVERY to about 100 ms. */
const QUIET_MS = 600;

const { values, positionals } = parseArgs({ allowPositionals: true, options: { screenshot: { type: 'string' } } });
if (!positionals.length) {
  console.error('usage: EVERY=100 make demo …, then: node demo.mjs PAGE_URL… [--screenshot FILE.png]');
  process.exit(64);
}

const browser = await launch();
let isGood = true;
try {
  for (const url of positionals) {
    const page = await browser.newPage();
    const problems = watch(page);
    const settings = new URLSearchParams(new URL(url).hash.slice(1));
    const name = settings.get('seed');
    isGood = (await runChecks(`demo ${name}`, checks(page, url, settings, SEEDS[name]), problems)) && isGood;
    if (values.screenshot) await page.screenshot({ path: values.screenshot, fullPage: true });
    await page.close();
  }
} finally {
  await browser.close();
}
process.exit(isGood ? 0 : 1);

function checks(page, url, settings, seed) {
  const all = [['the page opens', () => open(page, url)]];
  for (const { name, path, buttons } of seed.sockets) {
    const card = `[data-socket="${name}"]`;
    all.push([`${path} opens`, () => page.waitForSelector(`${card} .status.open`, { timeout: LIMIT_MS })]);
    // Sockets without such a button send messages by themselves.
    if (!buttons.some((button) => button.shows)) all.push([`${path}: messages arrive`, () => counted(page, card, '', 1)]);
    for (const button of buttons) all.push([`${path}: ${words(button)}`, () => press(page, card, button)]);
  }
  for (const { method, path } of seed.calls ?? []) {
    all.push([`${method} ${path} is answered`, () => call(page, `[data-call="${method} ${path}"]`)]);
  }
  if (settings.has('document')) all.push(["the document's snippets run", () => runSnippets(page)]);
  return all;
}

function words({ label, shows, ends }) {
  if (shows) return `${label} shows ${shows}`;
  return ends ? `${label} ends ${ends}` : `${label} is sent`;
}

/** The number of messages with this name, or with any name, that the page has shown. */
function count(page, card, name) {
  const rows = `${card} tr${name && `[data-name="${name}"]`}`;
  return page.locator(rows).evaluateAll((all) => all.reduce((sum, row) => sum + Number(row.cells[1].textContent), 0));
}

async function counted(page, card, name, least) {
  const deadline = performance.now() + LIMIT_MS;
  while ((await count(page, card, name)) < least) {
    if (performance.now() > deadline) throw new Error(`${name || 'a message'} does not arrive`);
    await page.waitForTimeout(20);
  }
}

async function press(page, card, { label, shows, ends }) {
  // Messages must have arrived before they can stop.
  if (ends) await counted(page, card, ends, 1);
  const before = shows && (await count(page, card, shows));
  await page.click(`${card} button[data-label="${label}"]`, { timeout: LIMIT_MS });
  if (shows) await counted(page, card, shows, before + 1);
  else if (ends) await isQuiet(page, card, ends);
  else await page.waitForSelector(`${card} .log .sent`, { timeout: LIMIT_MS });
}

async function isQuiet(page, card, name) {
  const deadline = performance.now() + LIMIT_MS;
  for (;;) {
    const before = await count(page, card, name);
    await page.waitForTimeout(QUIET_MS);
    if ((await count(page, card, name)) === before) return;
    if (performance.now() > deadline) throw new Error(`${name} still arrives`);
  }
}

async function call(page, card) {
  await page.click(`${card} button`, { timeout: LIMIT_MS });
  const output = page.locator(`${card} output`);
  await output.filter({ hasText: /^\d|[a-z]/ }).waitFor({ timeout: LIMIT_MS });
  const answer = await output.textContent();
  if (!answer.startsWith('200 ')) throw new Error(`the answer is ${answer}`);
}

async function runSnippets(page) {
  const cards = page.locator('[data-snippet]:has(button)');
  await cards.first().waitFor({ timeout: LIMIT_MS });
  for (const card of await cards.all()) {
    await card.locator('button').click();
    await card.locator('li', { hasText: '(open)' }).waitFor({ timeout: LIMIT_MS });
    // Snippets with `onmessage` print messages, as JSON.
    const listens = (await card.locator('pre').textContent()).includes('onmessage');
    if (listens) await card.locator('li', { hasText: '{' }).first().waitFor({ timeout: LIMIT_MS });
    const printed = await card.locator('li').allTextContents();
    const wrong = printed.find((line) => /^(uncaught|\(closed)/.test(line));
    const name = await card.locator('strong').textContent();
    if (wrong) throw new Error(`${name}: ${wrong}`);
    console.log(`     ${name}: ${printed[0].slice(0, 90)}`);
  }
}
