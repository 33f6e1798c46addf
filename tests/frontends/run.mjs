#!/usr/bin/env node
// Runs the frontends as pages in a real Chromium, and the real clients of MCP and graphql-ws, against a Tidegate that
// serves vocabularies/SEED.config.toml.
//
//   run.mjs --nats nats://127.0.0.1:4222 --secret TEXT --ws stock-agent=ws://127.0.0.1:8000 [--ws SEED=URL …] [--row TEXT]
//
// Prints one line for each row: `ok SEED ROW`, `FAIL SEED ROW reason` or `skip SEED ROW reason`. The exit code is 0 if
// all are ok, 1 if one failed, and 64 for bad usage. --secret is the text that the node has in
// TIDEGATE_AUTH__HMAC_SECRET. --api-key is a key that the node has under [[auth.api_key]], with the role that the
// comment in the configuration names; without it, rows that need a key are skipped. Pass --console if the node has
// `http.console` on. --pages-port is the port of the pages: the node must allow their origin, http://127.0.0.1:PORT
// (`http.allowed_origins`); the default is any free port, for `tidegate dev`. --row runs only the rows whose name contains the text. $TIDEGATE_CHROMIUM is the path of a
// Chromium to use instead of Debian's. Behind a load balancer, --node stock-agent=URL is the address of each node, so that
// two pages that call each other have different nodes.

import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS as CALL_FLAGS, rows as calls } from './calls.mjs';
import { FLAGS, runnerSide, serve, tag } from './stage.mjs';

const PAGES = ['financegpt', 'hoardrun', 'stock-agent', 'sentio', 'ara'];
const CLIENTS = ['financegpt-mcp', 'graphql-ws'];
const ROW_LIMIT_MS = 90_000;

const options = readOptions();
process.exit(await main());

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        nats: { type: 'string' },
        ws: { type: 'string', multiple: true },
        node: { type: 'string', multiple: true, default: [] },
        secret: { type: 'string' },
        row: { type: 'string', default: '' },
        'pages-port': { type: 'string', default: '0' },
        'api-key': { type: 'string' },
        console: { type: 'boolean', default: false },
      },
    });
    if (!values.nats || !values.secret || !values.ws) throw new Error('--nats, --secret and --ws are required');
    const addresses = values.ws.map((text) => {
      const [, seed, url] = /^([a-z-]+)=(wss?:\/\/.*?)\/?$/.exec(text) ?? [];
      if (![...PAGES, ...CLIENTS].includes(seed)) {
        throw new Error(`"${text}" is not SEED=ws://…; the seeds are ${[...PAGES, ...CLIENTS].join(', ')}`);
      }
      return { seed, url };
    });
    return { ...values, addresses };
  } catch (error) {
    console.error(`run.mjs: ${error.message}`);
    console.error(
      'usage: run.mjs --nats URL --secret TEXT --ws SEED=URL [--ws SEED=URL …] [--api-key TEXT] [--row TEXT] [--console]',
    );
    process.exit(64);
  }
}

async function main() {
  const stage = await runnerSide(options.nats, options.secret);
  let browser;
  let server;
  let passed = 0;
  let failed = 0;
  const report = async (seed, name, row) => {
    if (!name.includes(options.row)) return;
    const failure = (error) => ({ wrong: `${error.name}: ${error.message}` });
    const { wrong, skipped } = await Promise.race([row(), late()]).catch(failure);
    if (wrong) failed += 1;
    else if (!skipped) passed += 1;
    const outcome = wrong ? 'FAIL' : skipped ? 'skip' : 'ok';
    console.log(`${outcome} ${seed} ${name}${wrong || skipped ? `: ${(wrong ?? skipped).replace(/\s+/g, ' ')}` : ''}`);
  };
  try {
    for (const { seed, url } of options.addresses) {
      if (CLIENTS.includes(seed)) {
        const { rows } = await import(`./node/${seed}.mjs`);
        for (const [name, row] of Object.entries(rows)) {
          await report(seed, name, () => row({ url, tag: tag(), ask: (...question) => stage.ask(url, ...question) }));
        }
        continue;
      }
      server ??= await serve(Number(options['pages-port']));
      browser ??= await chromium.launch({
        executablePath: process.env.TIDEGATE_CHROMIUM || '/usr/bin/chromium',
        args: [...FLAGS, ...CALL_FLAGS],
      });
      const page = await browser.newPage();
      await page.exposeFunction('ask', (...question) => stage.ask(url, ...question));
      await page.goto(server.url);
      await page.waitForFunction('window.rowsOf');
      for (const name of await page.evaluate((it) => window.rowsOf(it), seed)) {
        const row = { url, tag: tag(), console: options.console, apiKey: options['api-key'] };
        await report(seed, name, () => page.evaluate(([...it]) => window.runRow(...it), [seed, name, row]));
      }
      await page.close();
      if (seed !== 'stock-agent') continue;
      const own = options.node.flatMap((it) => (it.startsWith(`${seed}=`) ? [it.slice(seed.length + 1)] : []));
      const nodes = own.length ? own : [url];
      const token = (sub) => stage.ask(url, 'token', { sub, role: 'user' });
      for (const [name, row] of Object.entries(calls))
        await report(seed, name, () => row({ browser, origin: server.url, nodes, tag: tag(), token }));
    }
  } finally {
    await browser?.close();
    server?.close();
    await stage.close();
  }
  console.log(`frontends in JavaScript: ${passed} passed, ${failed} failed`);
  return failed || !passed ? 1 : 0;
}

function late() {
  const wrong = `did not end within ${ROW_LIMIT_MS / 1000} s`;
  return new Promise((resolve) => setTimeout(resolve, ROW_LIMIT_MS, { wrong }).unref());
}
