// The real client of graphql-ws: subscriptions by operation name.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const LIMIT_MS = 10_000;
const PRICES = 'subscription Prices($symbol: String!) { prices(symbol: $symbol) { price } }';
const NOTIFICATIONS = 'subscription Notifications { notifications { title } }';

/** A subscription whose results a row can wait for. */
class Operation {
  results = [];
  ended = null;

  constructor(client, payload) {
    this.leave = client.subscribe(payload, {
      next: (result) => this.results.push(result),
      error: (error) => (this.ended = { error }),
      complete: () => (this.ended ??= {}),
    });
  }

  async until(what, holds, meanwhile = () => {}) {
    const deadline = performance.now() + LIMIT_MS;
    for (;;) {
      const found = holds(this);
      if (found) return found;
      if (performance.now() > deadline)
        throw new Error(`${what}: ${JSON.stringify({ results: this.results, ended: this.ended })}`);
      await meanwhile();
      await sleep(50);
    }
  }

  /** Publishes until a result arrives, then discards all results so far. */
  async live(stage, subject) {
    await this.until(
      `no message published on ${subject} arrives`,
      () => this.results.length,
      () => stage.ask('publish', subject, { probe: 1 }),
    );
    await sleep(150);
    this.results.length = 0;
  }

  async next(wanted) {
    const result = await this.until('no result arrives', () => this.results.shift());
    assert.deepEqual(result, wanted);
  }
}

/** Runs one row with a new client. Resolves to `{ wrong }` or `{}`. */
async function row(stage, token, use, options = {}) {
  const closes = [];
  const client = createClient({
    url: `${stage.url}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { token },
    retryAttempts: 0,
    on: { closed: ({ code }) => closes.push(code) },
    ...options,
  });
  try {
    await use(client, closes);
    return {};
  } catch (error) {
    return { wrong: `${error.name}: ${error.message}` };
  } finally {
    await client.dispose();
  }
}

const named = (stage, user) => stage.ask('token', { sub: user, role: 'user' });
const prices = (symbol) => ({ operationName: 'Prices', query: PRICES, variables: { symbol } });

export const rows = {
  'subscription Prices, next and complete': async (stage) => {
    const symbol = `AAPL-${stage.tag}`;
    return row(stage, await named(stage, `alice-${stage.tag}`), async (client) => {
      const first = new Operation(client, prices(symbol));
      const second = new Operation(client, prices(symbol));
      await first.live(stage, `prices.${symbol}`);
      await second.live(stage, `prices.${symbol}`);
      first.results.length = 0;
      await stage.ask('publish', `prices.${symbol}`, { price: 190.1 });
      for (const operation of [first, second]) await operation.next({ data: { prices: { price: 190.1 } } });
      first.leave();
      await first.until('complete does not arrive', () => first.ended);
      await stage.ask('publish', `prices.${symbol}`, { price: 190.2 });
      await second.next({ data: { prices: { price: 190.2 } } });
      assert.deepEqual([first.results, second.results], [[], []]);
    });
  },

  'subscription Notifications': async (stage) => {
    const user = `alice-${stage.tag}`;
    return row(stage, await named(stage, user), async (client) => {
      const operation = new Operation(client, { operationName: 'Notifications', query: NOTIFICATIONS });
      await operation.live(stage, `user.${user}.notifications`);
      await stage.ask('publish', `user.bob-${stage.tag}.notifications`, { title: 'not yours' });
      await stage.ask('publish', `user.${user}.notifications`, { title: 'hi' });
      await operation.next({ data: { notifications: { title: 'hi' } } });
      assert.deepEqual(operation.results, []);
    });
  },

  'an unknown operation is an error of that operation': async (stage) => {
    const symbol = `AAPL-${stage.tag}`;
    return row(stage, await named(stage, `alice-${stage.tag}`), async (client) => {
      const good = new Operation(client, prices(symbol));
      const bad = new Operation(client, { operationName: 'Secrets', query: 'subscription Secrets { secrets }' });
      const { error } = await bad.until('no error arrives', () => bad.ended);
      const wanted = [{ message: 'There is no operation of this name here', extensions: { code: 'unsupported' } }];
      assert.deepEqual(JSON.parse(JSON.stringify(error)), wanted);
      await good.live(stage, `prices.${symbol}`);
    });
  },

  'an invalid symbol is an error of that operation': async (stage) =>
    row(stage, await named(stage, `alice-${stage.tag}`), async (client) => {
      const bad = new Operation(client, prices('A.B'));
      const { error } = await bad.until('no error arrives', () => bad.ended);
      assert.equal(error[0].extensions.code, 'bad_channel');
    }),

  'a token in the handshake, and answers to pings': async (stage) => {
    const user = `alice-${stage.tag}`;
    const authorization = `Bearer ${await named(stage, user)}`;
    class Authorized extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, { headers: { authorization } });
      }
    }
    const pongs = [];
    const use = async (client) => {
      const operation = new Operation(client, { operationName: 'Notifications', query: NOTIFICATIONS });
      await operation.live(stage, `user.${user}.notifications`);
      await operation.until('no pong arrives', () => pongs.includes(true));
    };
    const on = { pong: (received) => pongs.push(received) };
    return row(stage, null, use, { webSocketImpl: Authorized, connectionParams: undefined, keepAlive: 100, on });
  },

  'an invalid token ends the session with 4403': async (stage) =>
    row(stage, 'nonsense', async (client, closes) => {
      const operation = new Operation(client, prices('AAPL'));
      await operation.until('the session goes on', () => operation.ended);
      assert.deepEqual(closes, [4403]);
    }),

  'a protocol error ends the session with its close code': async (stage) => {
    const before = { id: '1', type: 'subscribe', payload: prices('AAPL') };
    for (const [wanted, text] of [
      [4401, JSON.stringify(before)],
      [4400, '{"type":'],
      [4400, JSON.stringify({ type: 'start', id: '1' })],
    ]) {
      const socket = new WebSocket(`${stage.url}/graphql`, 'graphql-transport-ws');
      await once(socket, 'open');
      socket.send(text);
      const [code] = await once(socket, 'close', { signal: AbortSignal.timeout(LIMIT_MS) });
      if (code !== wanted) return { wrong: `sent ${text}, expected to be closed with ${wanted}, was ${code}` };
    }
    return {};
  },
};
