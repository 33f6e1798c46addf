// Checks in a real Chromium that only the pages in http.allowed_origins can use a cookie, and what a foreign page gets.
//
//   node tests/browser/origins.mjs TIDEGATE NATS_URL
//
// TIDEGATE is the program, and NATS_URL a running NATS server. It prints one line per check. Exit codes: 0 if all checks
// pass, 1 if one fails, 64 for wrong usage.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { launch, open, runChecks } from './kit.mjs';

const [program, natsUrl] = process.argv.slice(2);
if (!program || !natsUrl) {
  console.error('usage: node origins.mjs TIDEGATE NATS_URL');
  process.exit(64);
}

const SECRET = 'a secret that is only ever used by this check';
const token = (sub) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${part({ alg: 'HS256' })}.${part({ sub, role: 'user', exp: Math.floor(Date.now() / 1000) + 600 })}`;
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`;
};

// Two servers for pages, which answer under every name. A cookie has no port: pages on another port of app.localhost are
// of the same site, and the browser adds it to their requests, so that only the node protects it.
const pages = createServer((request, response) => {
  const name = new URL(request.url, 'http://x').searchParams.get('cookie');
  const cookies = name ? [`${name}=${token('alice')}; HttpOnly; Path=/; SameSite=Lax`] : [];
  response.writeHead(200, { 'content-type': 'text/html', 'set-cookie': cookies }).end('<!doctype html><title>page</title>');
});
const other = createServer((_request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('other'));
const port = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
const [pagesPort, otherPort] = [await port(pages), await port(other)];
const app = `http://app.localhost:${pagesPort}`;

const node = spawn(program, ['serve', '--set', 'http.listen=127.0.0.1:0', '--set', `nats.url=${natsUrl}`,
  '--set', `http.allowed_origins=${app}`, '--set', 'auth.cookie=session', '--set', 'log.format=json',
  '--set', 'server.lame_duck_s=0', '--set', 'server.drain_s=0'], {
  env: { ...process.env, TIDEGATE_AUTH__HMAC_SECRET: SECRET },
  stdio: ['ignore', 'ignore', 'pipe'],
});
const lines = createInterface({ input: node.stderr });
const log = [];
const address = new Promise((resolve, reject) => {
  lines.on('line', (line) => {
    log.push(line);
    const { message, address } = JSON.parse(line);
    if (message === 'listening') resolve(address);
  });
  lines.on('close', () => reject(new Error(`tidegate ended:\n${log.join('\n')}`)));
});
const nodePort = (await address).split(':').pop();
const socket = `ws://app.localhost:${nodePort}/ws`;
const ticketUrl = `http://app.localhost:${nodePort}/v1/ticket`;

const browser = await launch();
const context = await browser.newContext();
const isGood = await runChecks('origins', checks(), []);
await browser.close();
node.kill('SIGTERM');
pages.close();
other.close();
process.exit(isGood ? 0 : 1);

/** Opens a page and connects from it. Resolves to the first message, or to "refused". */
async function connectFrom(url, target = socket) {
  const page = await context.newPage();
  await open(page, url);
  const outcome = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url);
        socket.onmessage = ({ data }) => resolve(JSON.parse(data));
        socket.onerror = () => resolve('refused');
      }),
    target,
  );
  await page.close();
  return outcome;
}

/** Asks for a ticket with the cookie. Resolves to the answer, or to "unreadable" if the browser hides it. */
async function ticketFrom(url) {
  const page = await context.newPage();
  await open(page, url);
  const outcome = await page.evaluate(
    (url) =>
      fetch(url, { method: 'POST', credentials: 'include', headers: { 'content-type': 'application/json' } })
        .then((answer) => answer.json())
        .catch(() => 'unreadable'),
    ticketUrl,
  );
  await page.close();
  return outcome;
}

function same(found, expected) {
  if (found !== expected) throw new Error(`expected ${expected}, got ${JSON.stringify(found)}`);
}

function checks() {
  return [
    [
      'the cookie of the allowed page authenticates it',
      async () => {
        const page = await context.newPage();
        await open(page, `${app}/?cookie=session`);
        await page.close();
        const { type, user } = await connectFrom(app);
        same(`${type} ${user}`, 'connected alice');
      },
    ],
    [
      'the browser adds the cookie to requests of a page on another port too',
      async () => {
        const page = await context.newPage();
        const sent = new Promise((resolve) => {
          pages.once('request', (request) => resolve(request.headers.cookie ?? ''));
        });
        await open(page, `http://app.localhost:${otherPort}/`);
        await page.evaluate((url) => fetch(url, { mode: 'no-cors', credentials: 'include' }).catch(() => {}), app);
        same((await sent).startsWith('session='), true);
        await page.close();
      },
    ],
    ['a page of another site cannot connect', async () => same(await connectFrom(`http://evil.localhost:${pagesPort}`), 'refused')],
    ['a page of another port cannot connect', async () => same(await connectFrom(`http://app.localhost:${otherPort}`), 'refused')],
    ['a page of the same machine cannot connect', async () => same(await connectFrom(`http://127.0.0.1:${pagesPort}`), 'refused')],
    [
      'a sandboxed frame of the allowed page cannot connect',
      async () => {
        const page = await context.newPage();
        await open(page, app);
        const outcome = await page.evaluate(
          (url) =>
            new Promise((resolve) => {
              addEventListener('message', ({ data }) => resolve(data));
              const script = `const s = new WebSocket(${JSON.stringify(url)});
                s.onopen = () => parent.postMessage('open', '*'); s.onerror = () => parent.postMessage('refused', '*');`;
              const frame = Object.assign(document.createElement('iframe'), { sandbox: 'allow-scripts' });
              frame.srcdoc = `<script>${script}</script>`;
              document.body.append(frame);
            }),
          socket,
        );
        await page.close();
        same(outcome, 'refused');
      },
    ],
    ['a foreign page gets no ticket', async () => same(await ticketFrom(`http://app.localhost:${otherPort}`), 'unreadable')],
    [
      'the allowed page gets a ticket for its cookie, and connects with it once',
      async () => {
        const { ticket, expires_in_s } = await ticketFrom(app);
        same(expires_in_s, 30);
        await context.clearCookies();
        same((await connectFrom(app, `${socket}?ticket=${ticket}`)).user, 'alice');
        same(await connectFrom(app, `${socket}?ticket=${ticket}`), 'refused');
      },
    ],
  ];
}
