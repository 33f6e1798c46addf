#!/usr/bin/env node
// Publishes on NATS what the backend of one of the five systems in vocabularies/ would publish.
//
//   node feed.mjs stock-agent                 publish one of each event every second, until Ctrl-C
//   node feed.mjs stock-agent --every 100     ten times as often
//   node feed.mjs stock-agent --once          publish one of each event, and exit
//   node feed.mjs financegpt --serve          also answer the requests of its pages and tools

import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, headers } from '@nats-io/transport-node';

const now = () => new Date().toISOString();
const cents = (price) => Number(price.toFixed(2));
const about = (price) => cents(price * (0.99 + Math.random() / 50));

// Events. The subject has the recipient or the topic; the payload is what the page shows.

function financegpt(user, n) {
  const balance = about(45_000);
  // The last token of the subject is the type of the event; the payload has the other members.
  return [
    [`user.${user}.balance_update`, { new_balance: balance, transaction: { id: `TXN${n}`, amount: -5000 } }],
    [`user.${user}.transaction_alert`, { amount: about(1200), merchant: 'Cafe' }],
    [`user.${user}.fraud_alert`, { alert_id: `alert-${n}`, message: 'FRAUD ALERT! Block card?' }],
    [`user.${user}.goal_progress`, { goal: 'car', percent: n % 101 }],
    [`user.${user}.market_update`, { holding: 'INFY', value: about(15_000) }],
    [`user.${user}.bill_reminder`, { bill: 'rent', due: '2026-12-01' }],
    [`user.${user}.insight_ready`, { insight: 'You spend less on Mondays' }],
    [`user.${user}.system_notification`, { message: 'maintenance at night' }],
    [
      `user.${user}.URGENT_FRAUD_ALERT`,
      { message: 'Suspicious ₹35,000 transaction detected!', action_required: true },
    ],
    // One publication for all users of the account.
    ['account.ACC1.updates', { by: user, withdrawn: 5000, new_balance: balance }],
    ['market.INFY', { symbol: 'INFY', price: about(1500), change: about(1) }],
    ['market.RELIANCE', { symbol: 'RELIANCE', price: about(2891.4), change: about(-12.1) }],
    // MCP clients receive it as the notification notifications/tools/list_changed.
    ['mcp.notify.tools.list_changed', {}],
  ];
}

function hoardrun(user, n) {
  const type = ['transaction', 'security', 'savings'][Math.floor(Math.random() * 3)];
  const login = { title: 'Login', message: 'New device', type, priority: 'high', metadata: {} };
  return [
    [`user.${user}.notifications`, { id: `n${n}`, ...login, created_at: now() }],
    [
      `user.${user}.transactions`,
      { transaction_id: `t${n}`, status: 'completed', amount: about(120), timestamp: now() },
    ],
    [`user.${user}.balance`, { balance: about(880), currency: 'USD' }],
    ['room.market_data', { symbol: 'AAPL', price: about(190) }],
    ['room.crypto', { symbol: 'BTC', price: about(90_000) }],
    ['system.announcements', { title: 'Maintenance', message: 'tonight' }],
  ];
}

function stockAgent(user, n) {
  const prices = Object.entries({ AAPL: 185.5, MSFT: 401, GOOGL: 140 }).map(([symbol, start]) => {
    const price = about(start);
    const change = cents(price - start);
    const change_pct = cents((change / start) * 100);
    const book = { volume: 45_000_000 + n, bid: cents(price - 0.05), ask: cents(price + 0.05) };
    return [`prices.${symbol}`, { price, change, change_pct, ...book }];
  });
  const alert = { id: `alert-${n}`, symbol: 'AAPL', type: 'price_threshold', message: 'AAPL crossed $185' };
  return [
    ...prices,
    ['alerts', { ...alert, severity: 'info' }],
    ['signals', { symbol: 'AAPL', action: 'buy', confidence: 0.85, reasoning: 'Strong bullish momentum...' }],
    ['system.notifications', { id: `notif-${n}`, message: 'Model training completed', type: 'success' }],
    [`user.${user}.notifications`, { id: `mine-${n}`, message: 'Order filled', type: 'info' }],
    [`user.${user}.portfolio`, { value: about(100_000), positions: { AAPL: 10 } }],
  ];
}

function sentio(user, n) {
  const signals = Object.entries({ AAPL: 'buy', GOOGL: 'hold', MSFT: 'sell' }).map(([symbol, signal]) => {
    return [`signals.${symbol}`, { symbol, signal, confidence: 0.85, timestamp: now() }];
  });
  const earnings = { portfolio_value: about(100_000), total_return: 5000, daily_pnl: 250, win_rate: 0.65 };
  const notification = { id: n, type: 'success', title: 'Trade Executed', timestamp: now() };
  return [
    ...signals,
    ['prices.AAPL', { symbol: 'AAPL', price: about(190) }],
    [`user.${user}.earnings`, earnings],
    [`user.${user}.notifications`, { ...notification, message: 'Your AAPL buy order has been executed' }],
    ['admin.users', { total_users: 150, active_subscriptions: 120, monthly_revenue: 15_000 }],
    ['admin.revenue', { monthly_revenue: 15_000 }],
  ];
}

function ara() {
  return [
    ['predictions.AAPL', { predicted_price: about(150.25), confidence: 0.85, timestamp: now() }],
    ['predictions.TSLA', { predicted_price: about(200), confidence: 0.7, timestamp: now() }],
    ['prices.AAPL', { price: about(149.5), volume: 1_000_000, timestamp: now() }],
    ['alerts', { type: 'price_alert', symbol: 'AAPL', message: 'Price exceeded $150', severity: 'high' }],
  ];
}

// Services. Each gets the tokens of the subject, and the client's message.

const balance = (_subject, { account = 'savings' }) => ({ savings: 45000.5, current: 1200 })[account] ?? 0;

function transactions(_subject, { limit = 10 }) {
  const all = Array.from({ length: 20 }, (_, index) => ({ id: `TXN${index + 1}`, amount: -100 * (index + 1) }));
  return all.slice(0, limit);
}

const acknowledge = () => ({ ok: true });

const TOOLS = [
  {
    name: 'loan_calculator',
    description: 'The monthly payment of a loan',
    inputSchema: {
      type: 'object',
      properties: { amount: { type: 'number' }, months: { type: 'integer' }, rate: { type: 'number' } },
      required: ['amount'],
    },
  },
];

const tools = () => ({ tools: TOOLS });

// The user is in the subject, which only Tidegate writes. Ignore what a client claims in its message.
function loanCalculator([, , user], { amount, months = 12, rate = 10 }) {
  const monthly = rate / 1200;
  const payment = (amount * monthly) / (1 - (1 + monthly) ** -months);
  if (!Number.isFinite(payment)) throw new Error('this amount, months and rate give no payment');
  const text = `${user} pays ${payment.toFixed(2)} a month for ${months} months`;
  return { content: [{ type: 'text', text }], isError: false };
}

// A symbol may have dots, as BRK.B.
const predict = ([, ...symbol]) => ({
  symbol: symbol.join('.'),
  predicted_price: about(150),
  confidence: 0.85,
  timestamp: now(),
});

const SYSTEMS = {
  financegpt: {
    user: 'USR001',
    events: financegpt,
    services: {
      'finance.*.balance': balance,
      'finance.*.transactions': transactions,
      'finance.*.acknowledge': acknowledge,
      'mcp.tools': tools,
      'tools.loan_calculator.*': loanCalculator,
    },
  },
  hoardrun: { user: 'u1', events: hoardrun },
  // Pages of Stock Agent without a token are the user "anonymous".
  'stock-agent': { user: 'anonymous', events: stockAgent },
  sentio: { user: 'user_001', events: sentio },
  ara: { user: 'anonymous', events: ara, services: { 'predict.>': predict } },
};

function serve(nc, subject, answer) {
  const callback = (_error, request) => {
    try {
      request.respond(JSON.stringify(answer(request.subject.split('.'), request.json() ?? {})));
    } catch (error) {
      // Tells Tidegate that this is an error; NATS' own service libraries do the same.
      const failed = headers();
      failed.set('Nats-Service-Error', error.message);
      failed.set('Nats-Service-Error-Code', '500');
      request.respond('', { headers: failed });
    }
  };
  // With a queue group, several instances of this program share the requests.
  nc.subscribe(subject, { queue: 'feed', callback });
  console.log(`answering ${subject}`);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nats: { type: 'string', default: 'nats://127.0.0.1:4222' },
    user: { type: 'string' },
    once: { type: 'boolean', default: false },
    every: { type: 'string', default: '1000' },
    serve: { type: 'boolean', default: false },
  },
});
const [seed] = positionals;
if (!Object.hasOwn(SYSTEMS, seed ?? '')) {
  const seeds = Object.keys(SYSTEMS).join('|');
  console.error(`usage: feed.mjs ${seeds} [--nats URL] [--user ID] [--once | --every MS] [--serve]`);
  process.exit(64);
}
const { user, events, services = {} } = SYSTEMS[seed];

const nc = await connect({ servers: values.nats, name: `${seed} feed` });
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());
if (values.serve) for (const [subject, answer] of Object.entries(services)) serve(nc, subject, answer);
for (let n = 1; !stop.signal.aborted; n += 1) {
  for (const [subject, payload] of events(values.user ?? user, n)) nc.publish(subject, JSON.stringify(payload));
  await nc.flush();
  if (values.once) break;
  // Ctrl-C ends the pause early.
  await sleep(Number(values.every), undefined, { signal: stop.signal }).catch(() => {});
}
if (values.serve && !stop.signal.aborted) await once(stop.signal, 'abort');
await nc.drain();
