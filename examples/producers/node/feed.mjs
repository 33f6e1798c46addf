#!/usr/bin/env node
// Feeds Stock Agent or hoardrun with what its backend would publish on NATS.
//
//   node feed.mjs stock-agent                 one of each event every second, until Ctrl-C
//   node feed.mjs hoardrun --every 100        ten times as often
//   node feed.mjs hoardrun --user u2 --once   one of each, and out

import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '@nats-io/transport-node';

const cents = (price) => Number(price.toFixed(2));
const about = (price) => cents(price * (0.99 + Math.random() / 50));

/** The subject says for whom or about what; the payload is what the page shows. */
const EVENTS = {
  // A page without a token is the user "anonymous".
  'stock-agent': (n, user = 'anonymous') => [
    ...Object.entries({ AAPL: 185.5, MSFT: 401, GOOGL: 140 }).map(([symbol, start]) => {
      const price = about(start);
      const change = cents(price - start);
      const change_pct = cents((change / start) * 100);
      const book = { volume: 45_000_000 + n, bid: cents(price - 0.05), ask: cents(price + 0.05) };
      return [`prices.${symbol}`, { price, change, change_pct, ...book }];
    }),
    [
      'alerts',
      { id: `alert-${n}`, symbol: 'AAPL', type: 'price_threshold', message: 'AAPL crossed $185', severity: 'info' },
    ],
    ['signals', { symbol: 'AAPL', action: 'buy', confidence: 0.85, reasoning: 'Strong bullish momentum...' }],
    ['system.notifications', { id: `notif-${n}`, message: 'Model training completed', type: 'success' }],
    [`user.${user}.notifications`, { id: `mine-${n}`, message: 'Order filled', type: 'info' }],
    [`user.${user}.portfolio`, { value: about(100_000), positions: { AAPL: 10 } }],
  ],
  hoardrun: (n, user = 'u1') => [
    [
      `user.${user}.notifications`,
      {
        id: `n${n}`,
        title: 'Login',
        message: 'New device',
        type: 'security',
        priority: 'high',
        metadata: {},
        created_at: new Date(),
      },
    ],
    [
      `user.${user}.transactions`,
      { transaction_id: `t${n}`, status: 'completed', amount: about(120), timestamp: new Date() },
    ],
    [`user.${user}.balance`, { balance: about(880), currency: 'USD' }],
    ['room.market_data', { symbol: 'AAPL', price: about(190) }],
    ['room.crypto', { symbol: 'BTC', price: about(90_000) }],
    ['system.announcements', { title: 'Maintenance', message: 'tonight' }],
  ],
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nats: { type: 'string', default: 'nats://127.0.0.1:4222' },
    user: { type: 'string' },
    once: { type: 'boolean', default: false },
    every: { type: 'string', default: '1000' },
  },
});
const events = EVENTS[positionals[0]];
if (!events) {
  console.error('usage: feed.mjs stock-agent|hoardrun [--nats URL] [--user ID] [--once | --every MS]');
  process.exit(64);
}

const nc = await connect({ servers: values.nats, name: `${positionals[0]} feed` });
let stopped = false;
process.once('SIGINT', () => (stopped = true));
for (let n = 1; !stopped; n += 1) {
  for (const [subject, payload] of events(n, values.user)) nc.publish(subject, JSON.stringify(payload));
  await nc.flush();
  if (values.once) break;
  await sleep(Number(values.every));
}
await nc.drain();
