#!/usr/bin/env node
// Runs the client snippets of the five documents against a Tidegate that serves the vocabularies: JavaScript in a real
// Chromium, Python with Python. The code is extracted from the documents, and none of it is in this repository.
//
//   snippets.mjs FOLDER --nats URL --secret TEXT --ws stock-agent=ws://127.0.0.1:8000 [--ws SEED=URL …] [--python PATH]
//
// FOLDER has the documents as 000*.txt to 004*.txt. The script runs every code block that opens a socket, with as few
// changes as possible, and prints a table with each change. The exit code is 0 if all blocks work, 1 if one does not,
// and 64 for bad usage. --python is a Python with `websockets` (tests/setup.sh --python). Pass --trust-client-identity
// if the nodes have `trust_client_identity` in their configurations, as in the documents: then the pages of FinanceGPT
// and Sentio need no token.

import { spawn } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS, runnerSide, serve } from './stage.mjs';

const LIMIT_MS = 10_000;
const AGAIN_MS = 100;
const OPENS = /new WebSocket\(|websockets\.connect\(/;

const PRICE = { price: 185.5, change: 2.3, change_pct: 1.26, volume: 45000000, bid: 185.45, ask: 185.55 };
const SIGNAL = { symbol: 'AAPL', signal: 'buy', confidence: 0.85, timestamp: '2024-10-05T10:30:00' };
const PREDICTION = { predicted_price: 150.25, confidence: 0.85, timestamp: '2024-01-01T12:00:00Z' };
const MARKET = { price: 149.5, volume: 1000000, timestamp: '2024-01-01T12:00:00Z' };
const ALERT = { type: 'price_alert', symbol: 'AAPL', message: 'Price exceeded $150', severity: 'high' };

/** A change that replaces texts. It is listed only if the snippet contains one of them. */
const replaces = (what, from, to) => (code, token) => [code.replaceAll(from, to.replace('TOKEN', token)), what];
/** A change for nodes that require a credential. */
const unlessTrusted = (change) => (code, token) =>
  options['trust-client-identity'] ? [code, null] : change(code, token);
/** Browsers throw when a page sends before the socket is open. */
const sendsWhenOpen = (code) => [
  code.replace(
    /^(\w+)\.send\(/m,
    (send, name) => `await new Promise((open) => ${name}.addEventListener('open', open));\n${send}`,
  ),
  'waits for `open` before it sends',
];
/** Stubs for functions of the application that a snippet calls. */
const stubs =
  (...names) =>
  (code) => [
    `${names.map((name) => `const ${name} = (it) => console.log('${name}', it);`).join(' ')}\n${code}`,
    `${names.join(', ')} stubbed`,
  ];

/** The system of each document, and the changes, publications and expected output of each of its snippets, in order. */
const DOCUMENTS = {
  '000': {
    seed: 'financegpt',
    claims: { sub: 'USR001', role: 'user' },
    snippets: [
      {
        changes: [unlessTrusted(replaces('token in the URL', '/ws/USR001', '/ws/USR001?token=TOKEN')), sendsWhenOpen],
        services: { 'finance.USR001.balance': { reply: 45000.5 } },
        publishes: { 'user.USR001.fraud_alert': { message: 'FRAUD ALERT! Block card?' } },
        prints: [
          'Connected! Line is open',
          'Server says: {"type":"connection","message":"Connected to FinanceGPT Pro","user_id":"USR001"',
          'Server says: {"balance":45000.5}',
          'Server says: {"type":"fraud_alert","message":"FRAUD ALERT! Block card?"}',
        ],
      },
    ],
  },
  '001': {
    seed: 'hoardrun',
    claims: { sub: 'u1', email: 'u1@example.com', token_type: 'access' },
    snippets: [
      {
        changes: [
          replaces('token', 'your-jwt-token', 'TOKEN'),
          sendsWhenOpen,
          stubs('showNotification', 'updateTransactionStatus', 'updateBalance', 'updateMarketData'),
        ],
        publishes: {
          'user.u1.notifications': { id: 'n1', type: 'security' },
          'user.u1.transactions': { transaction_id: 't1' },
          'user.u1.balance': { balance: 879.5 },
          'room.market_data': { symbol: 'AAPL' },
        },
        prints: [
          'Connected to WebSocket',
          'Received: {"type":"connection_established"',
          'showNotification {"id":"n1","type":"security"}',
          'updateTransactionStatus {"transaction_id":"t1"}',
          'updateBalance {"balance":879.5}',
          'updateMarketData {"symbol":"AAPL"}',
        ],
      },
    ],
  },
  '002': {
    seed: 'stock-agent',
    claims: {},
    snippets: [
      {
        changes: [],
        publishes: { 'prices.AAPL': PRICE },
        prints: [
          'Welcome: {"type":"connected","client_id":"test"',
          'Update: {"type":"subscribed","channel":"prices","symbols":["AAPL"]',
          ...Array(4).fill('Update: {"type":"price_update","symbol":"AAPL"'),
        ],
        ends: true,
      },
      {
        changes: [],
        publishes: { 'prices.AAPL': PRICE, 'prices.MSFT': PRICE },
        prints: [
          'Connected',
          'Message: {"type":"connected","client_id":"browser-test"',
          `Message: {"type":"price_update","symbol":"AAPL","data":${JSON.stringify(PRICE)}`,
          `Message: {"type":"price_update","symbol":"MSFT","data":${JSON.stringify(PRICE)}`,
        ],
      },
    ],
  },
  '003': {
    seed: 'sentio',
    claims: { sub: 'test_user', role: 'user' },
    snippets: [
      { changes: [], prints: ['(handshake: 101)'] },
      {
        changes: [],
        publishes: { 'signals.AAPL': [SIGNAL] },
        prints: ['Connected', `Received: {"type":"trade_signals","data":[${JSON.stringify(SIGNAL)}]`],
      },
    ],
  },
  '004': {
    seed: 'ara',
    claims: { sub: 'alice', role: 'user' },
    snippets: [
      {
        changes: [replaces('token', 'YOUR_TOKEN', 'TOKEN')],
        publishes: { 'predictions.AAPL': PREDICTION },
        prints: [
          'Connected to predictions stream',
          'Received: {"type":"connected","channel":"predictions","symbol":"AAPL"',
          `New prediction: ${JSON.stringify(PREDICTION)}`,
        ],
      },
      {
        changes: [replaces('token', 'YOUR_TOKEN', 'TOKEN')],
        publishes: { 'prices.AAPL': MARKET },
        prints: ['Connected to market data stream', "Price update: {'price': 149.5, 'volume': 1000000"],
      },
      {
        changes: [replaces('token', 'YOUR_TOKEN', 'TOKEN'), stubs('showNotification')],
        publishes: { alerts: ALERT },
        prints: [`Alert: ${JSON.stringify(ALERT)}`, `showNotification ${JSON.stringify(ALERT)}`],
      },
      { changes: [], prints: ['(handshake: 101)'] },
      {
        changes: [replaces('token', 'YOUR_TOKEN', 'TOKEN')],
        publishes: { 'predictions.AAPL': PREDICTION },
        prints: ['Connected', `New prediction: ${JSON.stringify(PREDICTION)}`],
      },
    ],
  },
};

const options = readOptions();
process.exit(await main());

function readOptions() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        nats: { type: 'string' },
        ws: { type: 'string', multiple: true },
        secret: { type: 'string' },
        python: { type: 'string', default: 'python3' },
        'pages-port': { type: 'string', default: '0' },
        'trust-client-identity': { type: 'boolean', default: false },
      },
    });
    if (!values.nats || !values.secret || !values.ws || positionals.length !== 1)
      throw new Error('FOLDER, --nats, --secret and --ws are required');
    const urls = Object.fromEntries(values.ws.map((text) => text.replace(/\/$/, '').split(/=(.*)/)));
    return { ...values, folder: positionals[0], urls };
  } catch (error) {
    console.error(`snippets.mjs: ${error.message}`);
    console.error(
      'usage: snippets.mjs FOLDER --nats URL --secret TEXT --ws SEED=URL [--ws SEED=URL …] [--python PATH] ' +
        '[--trust-client-identity]',
    );
    process.exit(64);
  }
}

async function main() {
  const stage = await runnerSide(options.nats, options.secret);
  const browser = await chromium.launch({
    executablePath: process.env.TIDEGATE_CHROMIUM || '/usr/bin/chromium',
    args: FLAGS,
  });
  const server = await serve(Number(options['pages-port']));
  let failed = 0;
  let passed = 0;
  console.log('| document | lines | language | changes | result |');
  console.log('|---|---|---|---|---|');
  try {
    for (const [number, { seed, claims, snippets }] of Object.entries(DOCUMENTS)) {
      if (!options.urls[seed]) continue;
      const found = await snippetsOf(number);
      for (const [index, snippet] of found.entries()) {
        const wanted = snippets[index];
        const token = await stage.ask('', 'token', claims);
        const { code, changes } = adapt(snippet.code, wanted, seed, token);
        const wrong = wanted
          ? await tried({ ...snippet, code }, wanted, { stage, browser, origin: server.url })
          : 'snippets.mjs does not describe this snippet';
        if (wrong) failed += 1;
        else passed += 1;
        const cells = [
          `${number} ${seed}`,
          `${snippet.from}–${snippet.to}`,
          snippet.language,
          changes.join('; ') || 'none',
        ];
        console.log(`| ${cells.join(' | ')} | ${wrong ? `FAIL: ${wrong.replaceAll('|', '\\|')}` : 'ok'} |`);
      }
      if (found.length < snippets.length) {
        failed += 1;
        console.log(`| ${number} ${seed} | – | – | – | FAIL: ${found.length} snippets, not ${snippets.length} |`);
      }
    }
  } finally {
    await browser.close();
    server.close();
    await stage.close();
  }
  console.log(`snippets: ${passed} passed, ${failed} failed`);
  return failed || !passed ? 1 : 0;
}

/** The code blocks of a document that open a socket, with their line numbers. */
async function snippetsOf(number) {
  const name = (await readdir(options.folder)).find((it) => it.startsWith(number) && it.endsWith('.txt'));
  if (!name) return [];
  const found = [];
  let open = null;
  for (const [index, line] of (await readFile(join(options.folder, name), 'utf8')).split(/\r?\n/).entries()) {
    const fence = /^\s*```(\w*)\s*$/.exec(line);
    if (fence && open) {
      const code = open.lines.join('\n');
      // A block in a list is indented.
      const indent = Math.min(...open.lines.filter((it) => it.trim()).map((it) => it.length - it.trimStart().length));
      const dedented = open.lines.map((it) => it.slice(indent)).join('\n');
      if (OPENS.test(code)) found.push({ language: open.language, code: dedented, from: open.from, to: index });
      open = null;
    } else if (fence) open = { language: fence[1], from: index + 2, lines: [] };
    else open?.lines.push(line);
  }
  return found;
}

/** The snippet with the address of the node and its other changes. */
function adapt(code, wanted, seed, token) {
  const changes = [];
  const address = new URL(options.urls[seed]).host;
  const all = [replaces('address', 'localhost:8000', address), ...(wanted?.changes ?? [])];
  for (const change of all) {
    const [changed, what] = change(code, token);
    if (changed !== code) changes.push(what);
    else if (what && what !== 'address') changes.push(`(nothing to change: ${what})`);
    code = changed;
  }
  return { code, changes };
}

/** Runs a snippet and repeats its publications until it prints the expected output. Resolves to an error, or null. */
async function tried(snippet, wanted, { stage, browser, origin }) {
  const printed = [];
  const services = [];
  for (const [subject, answer] of Object.entries(wanted.services ?? {}))
    services.push(await stage.ask('', 'serve', subject, answer));
  const running = await (snippet.language === 'javascript'
    ? inBrowser(browser, origin, snippet.code, printed)
    : asProgram(snippet, printed));
  const deadline = performance.now() + LIMIT_MS;
  try {
    for (;;) {
      const missing = lacking(wanted.prints, printed);
      const over = !wanted.ends || running.code !== undefined;
      if (!missing && over && !running.wrong) return running.code ? `it ended with ${running.code}` : null;
      if (running.wrong) return running.wrong;
      if (performance.now() > deadline)
        return `it did not print ${missing ?? 'its end'}; it printed ${printed.join(' · ').slice(0, 600)}`;
      for (const [subject, payload] of Object.entries(wanted.publishes ?? {}))
        await stage.ask('', 'publish', subject, payload);
      await sleep(AGAIN_MS);
    }
  } finally {
    await running.stop();
    for (const id of services) await stage.ask('', 'served', id);
  }
}

/** The first expected text that is not in the output yet. Each line counts for one text. */
function lacking(wanted, printed) {
  const left = [...printed];
  return wanted.find((text) => {
    const at = left.findIndex((line) => line.includes(text));
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

async function inBrowser(browser, origin, code, printed) {
  const page = await browser.newPage();
  const running = { stop: () => page.close() };
  page.on('pageerror', (error) => (running.wrong = `uncaught: ${error.message}`));
  page.on('console', async (message) => {
    const values = await Promise.all(message.args().map((it) => it.jsonValue().catch(() => null)));
    printed.push(values.map((it) => (typeof it === 'string' ? it : JSON.stringify(it))).join(' '));
  });
  const network = await page.context().newCDPSession(page);
  await network.send('Network.enable');
  network.on('Network.webSocketHandshakeResponseReceived', ({ response }) =>
    printed.push(`(handshake: ${response.status})`),
  );
  network.on('Network.webSocketFrameError', ({ errorMessage }) => printed.push(`(${errorMessage})`));
  await page.goto(`${origin}empty.html`);
  await page.evaluate(
    (text) =>
      document.head.append(Object.assign(document.createElement('script'), { type: 'module', textContent: text })),
    code,
  );
  return running;
}

/** Runs the snippet with Python, or with bash if it is a shell script that calls `python`. */
async function asProgram({ language, code }, printed) {
  const [program, ...rest] = language === 'python' ? [options.python, '-u', '-c', code] : ['bash', '-e', '-c', code];
  const folder = options.python.includes('/') ? `${dirname(resolve(options.python))}:` : '';
  const env = { ...process.env, PATH: folder + process.env.PATH, PYTHONUNBUFFERED: '1', PIP_NO_INDEX: '1' };
  const child = spawn(program, rest, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const running = {};
  let errors = '';
  let unread = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    const lines = (unread + text).split('\n');
    unread = lines.pop();
    printed.push(...lines);
  });
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  const ended = new Promise((resolveEnd) => {
    child.on('error', (error) => resolveEnd((running.wrong = error.message)));
    child.on('close', (code) => {
      running.code = code;
      if (code) running.wrong = errors.trim().split('\n').pop();
      resolveEnd();
    });
  });
  running.stop = async () => {
    child.kill();
    await ended;
  };
  return running;
}
