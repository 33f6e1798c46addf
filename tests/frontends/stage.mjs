// The part of a frontend test outside the browser: NATS publications and services, tokens, and HTTP calls.

import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { extname, join } from 'node:path';
import { connect as connectService, headers } from '@nats-io/transport-node';
import WebSocket from 'ws';
import { connect } from '../browser/nats.mjs';

const LIMIT_MS = 10_000;

/** Flags that stop Chromium from sending its own requests. */
export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const tag = () => randomBytes(3).toString('hex');

export function token(secret, claims) {
  const part = (value) => Buffer.from(value).toString('base64url');
  const body = { exp: Math.floor(Date.now() / 1000) + 600, ...claims };
  const signed = [{ alg: 'HS256', typ: 'JWT' }, body].map((it) => part(JSON.stringify(it))).join('.');
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Returns `ask(url, what, …)` for one NATS server and one secret. Every call resolves once its effect is complete. */
export async function runnerSide(natsUrl, secret) {
  const producer = await connect(natsUrl, LIMIT_MS);
  const nc = await connectService({ servers: natsUrl, name: 'frontend test services', reconnect: false });
  const services = [];

  const actions = {
    token: (_url, claims) => token(secret, claims),
    publish: (_url, subject, payload) => producer.publish(subject, payload),
    /** Starts a service. `answer` is `{ reply }`, or `{ fails }` for an error with this text. */
    async serve(_url, subject, answer) {
      const asked = [];
      const subscription = nc.subscribe(subject, {
        callback: (_error, message) => {
          asked.push([message.subject, message.json()]);
          if (!('fails' in answer)) return message.respond(JSON.stringify(answer.reply));
          const failed = headers();
          failed.set('Nats-Service-Error', answer.fails);
          failed.set('Nats-Service-Error-Code', '500');
          return message.respond('', { headers: failed });
        },
      });
      await nc.flush();
      return services.push({ asked, subscription }) - 1;
    },
    served(_url, id) {
      services[id].subscription.unsubscribe();
      return services[id].asked;
    },
    /** Resolves to the status and the body: JSON, text or null. Each call uses a new connection. */
    async http(url, method, path, bearer, body) {
      const data = body === undefined ? '' : JSON.stringify(body);
      const call = request(url.replace(/^ws/, 'http') + path, { method, agent: false, timeout: LIMIT_MS });
      if (bearer) call.setHeader('authorization', `Bearer ${bearer}`);
      if (data) call.setHeader('content-type', 'application/json');
      call.on('timeout', () => call.destroy(new Error(`${method} ${path} got no response within ${LIMIT_MS} ms`)));
      call.end(data);
      const [response] = await once(call, 'response');
      const answer = (await response.setEncoding('utf8').toArray()).join('');
      try {
        return [response.statusCode, answer === '' ? null : JSON.parse(answer)];
      } catch {
        return [response.statusCode, answer];
      }
    },
    /** The status of the response to a handshake. */
    handshake: (url, path) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(url + path, { handshakeTimeout: LIMIT_MS });
        socket.on('open', () => (socket.terminate(), resolve(101)));
        socket.on('unexpected-response', (request, response) => (request.destroy(), resolve(response.statusCode)));
        socket.on('error', reject);
      }),
  };
  const ask = async (url, what, ...rest) => actions[what](url, ...rest);
  const close = async () => {
    producer.close();
    await nc.close();
  };
  return { ask, close };
}

/** Serves the pages on another port than the node, as a development server does. 0 is any free port. */
export async function serve(port = 0) {
  const types = { '.html': 'text/html', '.mjs': 'text/javascript' };
  const server = createServer(async (request, response) => {
    const [name] = /[a-z-]+\.(html|mjs)$/.exec(request.url) ?? ['index.html'];
    try {
      const body = await readFile(join(import.meta.dirname, 'pages', name));
      response.writeHead(200, { 'content-type': `${types[extname(name)]}; charset=utf-8` }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}
