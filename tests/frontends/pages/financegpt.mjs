// FinanceGPT Pro (document 000): one socket for each user, pushed events, and requests to services.

import { ANY_TEXT, MILLISECONDS, Wrong, same, short } from './kit.mjs';

const EVENTS = {
  balance_update: { new_balance: 45000.5, transaction: { id: 'TXN9', amount: -5000 } },
  transaction_alert: { amount: 1200, merchant: 'Cafe' },
  fraud_alert: { message: 'FRAUD ALERT! Block card?' },
  goal_progress: { goal: 'car', percent: 50 },
  market_update: { holding: 'INFY', value: 15000 },
  bill_reminder: { bill: 'rent', due: '2026-12-01' },
  insight_ready: { insight: 'You spend less on Mondays' },
  system_notification: { message: 'maintenance at night' },
  URGENT_FRAUD_ALERT: { message: 'Suspicious ₹35,000 transaction detected!', action_required: true },
};

/** A page that has received the greeting. A user who shares no accounts has no claim for them. */
async function page(stage, user, ...accounts) {
  const claims = accounts.length ? { accounts } : {};
  const socket = await stage.socket(`/ws/${user}?token=${await stage.token(user, 'user', claims)}`);
  await socket.expect({
    type: 'connection',
    message: 'Connected to FinanceGPT Pro',
    user_id: user,
    connection_id: ANY_TEXT,
    timestamp: MILLISECONDS,
  });
  return socket;
}

const error = (code, message = ANY_TEXT) => ({ type: 'error', code, message });
const watch = (socket, ...symbols) =>
  socket.ask({ type: 'subscribe', symbols }, { type: 'subscribed', symbols });

/** Checks that the page's message becomes this request to the service, and its reply this answer to the page. */
async function asks(stage, subject, message, request, service, answer) {
  const user = stage.name('USR001');
  const wanted = subject.replace('USER', user);
  const socket = await page(stage, user);
  const asked = await stage.service(wanted, service, () => socket.ask(message, answer));
  if (!same([[wanted, request]], asked))
    throw new Wrong(`the service was asked ${short(asked)}, not ${wanted} ${short(request)}`);
}

const pushed = (event, payload) => async (stage) => {
  const user = stage.name('USR001');
  const socket = await page(stage, user);
  await socket.live(`user.${user}.${event}`);
  await stage.publish(`user.${user}.${event}`, payload);
  await socket.expect({ type: event, ...payload });
  await socket.quiet();
};

export const rows = {
  '/ws/{user_id}': async (stage) => {
    const user = stage.name('USR001');
    const socket = await page(stage, user);
    await socket.live(`user.${user}.balance_update`);
    await socket.quiet();
    await stage.refused(`/ws/${user}?token=${await stage.token(stage.name('USR002'))}`, 403);
    await stage.refused(`/ws/${user}?token=nonsense`, 401);
    await stage.refused(`/ws/${user}`, 401);
    await stage.refused(`/ws/?token=${await stage.token(user)}`, 404);
  },

  ...Object.fromEntries(Object.entries(EVENTS).map(([event, payload]) => [event, pushed(event, payload)])),

  'an event that the document does not name, and payloads that are no objects': async (stage) => {
    const user = stage.name('USR001');
    const socket = await page(stage, user);
    await socket.live(`user.${user}.anything`);
    await stage.publish(`user.${user}.custom_event`, { a: 1 });
    await socket.expect({ type: 'custom_event', a: 1 });
    for (const data of [45000.5, [1, 2], 'hello', null]) {
      await stage.publish(`user.${user}.balance_update`, data);
      await socket.expect({ type: 'balance_update', data });
    }
    await socket.quiet();
  },

  'a notification has its own type': async (stage) => {
    const user = stage.name('USR001');
    const socket = await page(stage, user);
    await socket.live(`user.${user}.notifications`);
    const alert = { type: 'URGENT_FRAUD_ALERT', ...EVENTS.URGENT_FRAUD_ALERT };
    await stage.publish(`user.${user}.notifications`, alert);
    await socket.expect(alert);
    await socket.quiet();
  },

  'one publication for all users': async (stage) => {
    const sockets = [await page(stage, stage.name('USR001')), await page(stage, stage.name('USR002'))];
    for (const socket of sockets) {
      // Other rows publish for all users too.
      socket.only = stage.tag;
      await socket.live('system.system_notification');
    }
    const whole = { type: 'MARKET_HOLIDAY', on: stage.tag };
    for (const [subject, payload, wanted] of [
      ['system.system_notification', { message: stage.tag }, { type: 'system_notification', message: stage.tag }],
      ['system.notifications', whole, whole],
      ['system.announcements', { title: stage.tag }, { type: 'system_notification', title: stage.tag }],
    ]) {
      await stage.publish(subject, payload);
      for (const socket of sockets) await socket.expect(wanted);
    }
  },

  'events of other users do not arrive': async (stage) => {
    const [user, other] = [stage.name('USR001'), stage.name('USR002')];
    const socket = await page(stage, user);
    await socket.live(`user.${user}.fraud_alert`);
    await stage.publish(`user.${other}.fraud_alert`, { message: 'not yours' });
    await stage.publish(`user.${user}.mcp.progress`, { progress: 1 });
    await stage.publish(`user.${user}.fraud_alert`, { type: 'balance_update', message: 'mine' });
    await socket.expect({ type: 'fraud_alert', message: 'mine' });
    await socket.quiet();
  },

  'several sockets of a user': async (stage) => {
    const user = stage.name('USR001');
    const [phone, laptop] = [await page(stage, user), await page(stage, user)];
    for (const socket of [phone, laptop]) await socket.live(`user.${user}.bill_reminder`);
    await stage.publish(`user.${user}.bill_reminder`, EVENTS.bill_reminder);
    for (const socket of [phone, laptop]) await socket.expect({ type: 'bill_reminder', ...EVENTS.bill_reminder });
    await laptop.close();
    await stage.publish(`user.${user}.bill_reminder`, { bill: 'power' });
    await phone.expect({ type: 'bill_reminder', bill: 'power' });
  },

  MARKET_UPDATE: async (stage) => {
    const [user, infy, tcs] = ['USR001', 'INFY', 'TCS'].map((it) => stage.name(it));
    const socket = await page(stage, user);
    await watch(socket, infy);
    for (const prefix of ['prices', 'market']) {
      await socket.live(`${prefix}.${infy}`);
      await stage.publish(`${prefix}.${tcs}`, { symbol: tcs, price: 1, change: 1 });
      await stage.publish(`${prefix}.${infy}`, { symbol: infy, price: 2891.4, change: -12.1, volume: 100 });
      await socket.expect({ type: 'MARKET_UPDATE', stock: infy, price: 2891.4, change: -12.1 });
      await stage.publish(`${prefix}.${infy}`, { price: 1500 });
      await socket.expect({ type: 'MARKET_UPDATE', stock: infy, price: 1500, change: null });
    }
    await socket.quiet();
  },

  'MARKET_UPDATE of 22 symbols of the NSE at once': async (stage) => {
    const symbols = Array.from({ length: 22 }, (_, number) => `${stage.name(`STOCK${number}`)}.NS`);
    const socket = await page(stage, stage.name('USR001'));
    await watch(socket, ...symbols);
    for (const stock of [symbols[0], symbols[21]]) {
      await socket.live(`prices.${stock}`);
      await stage.publish(`prices.${stock}`, { price: 2891.4, change: -12.1 });
      await socket.expect({ type: 'MARKET_UPDATE', stock, price: 2891.4, change: -12.1 });
    }
    await socket.quiet();
  },

  'SHARED_ACCOUNT_UPDATE: one update reaches a family': async (stage) => {
    const [account, own, dad, mom, stranger] = ['ACC1', 'ACC7', 'USR001', 'USR002', 'USR003'].map((it) =>
      stage.name(it),
    );
    const [first, second, third] = [
      await page(stage, dad, account),
      await page(stage, mom, own, account),
      await page(stage, stranger),
    ];
    await first.live(`account.${account}.updates`);
    await second.live(`account.${account}.updates`);
    await second.live(`account.${own}.updates`);
    await third.live(`user.${stranger}.balance_update`);
    const update = { by: dad, withdrawn: 5000, new_balance: 15000 };
    await stage.publish(`account.${account}.updates`, update);
    for (const socket of [first, second]) await socket.expect({ type: 'SHARED_ACCOUNT_UPDATE', update });
    await stage.publish(`account.${own}.updates`, update);
    await second.expect({ type: 'SHARED_ACCOUNT_UPDATE', update });
    for (const socket of [first, second, third]) await socket.quiet();
  },

  subscribe: async (stage) => {
    const [user, infy, tcs] = ['USR001', 'INFY', 'TCS'].map((it) => stage.name(it));
    const socket = await page(stage, user);
    await socket.live(`user.${user}.insight_ready`);
    const [fewer, again] = [{ events: ['insight_ready', 'goal_progress'] }, { events: ['insight_ready'] }];
    await socket.ask({ type: 'unsubscribe', ...fewer }, { type: 'unsubscribed', ...fewer });
    await socket.ask({ type: 'subscribe', ...again }, { type: 'subscribed', ...again });
    await watch(socket, infy, tcs);
    await socket.live(`prices.${infy}`);
    await socket.live(`prices.${tcs}`);
    await stage.publish(`user.${user}.goal_progress`, { goal: 'car' });
    await stage.publish(`user.${user}.insight_ready`, { insight: 'a' });
    await socket.expect({ type: 'insight_ready', insight: 'a' });
    await socket.quiet();
    await socket.ask({ type: 'subscribe' }, error('bad_request', 'subscribe needs `events`, `symbols` or `channels`'));
    await socket.ask({ type: 'subscribe', symbols: ['*'] }, error('bad_channel'));
    await socket.ask({ type: 'subscribe', events: 'fraud_alert' }, error('bad_request'));
  },

  unsubscribe: async (stage) => {
    const [user, infy, tcs] = ['USR001', 'INFY', 'TCS'].map((it) => stage.name(it));
    const socket = await page(stage, user);
    await watch(socket, infy, tcs);
    await socket.live(`prices.${infy}`);
    await socket.live(`prices.${tcs}`);
    await socket.live(`user.${user}.bill_reminder`);
    for (const listed of [{ events: ['bill_reminder'] }, { events: ['goal_progress'] }, { symbols: [infy] }])
      await socket.ask({ type: 'unsubscribe', ...listed }, { type: 'unsubscribed', ...listed });
    await stage.publish(`user.${user}.bill_reminder`, { bill: 'rent' });
    await stage.publish(`user.${user}.goal_progress`, { goal: 'car' });
    await stage.publish(`prices.${infy}`, { price: 1, change: 1 });
    await stage.publish(`prices.${tcs}`, { price: 2, change: 1 });
    await socket.expect({ type: 'MARKET_UPDATE', stock: tcs, price: 2, change: 1 });
    await stage.publish(`user.${user}.balance_update`, { new_balance: 1 });
    await socket.expect({ type: 'balance_update', new_balance: 1 });
    await socket.quiet();
    await socket.ask({ type: 'unsubscribe' }, error('bad_request', 'unsubscribe needs `events`, `symbols` or `channels`'));
  },

  "the public server's ping and channels": async (stage) => {
    const socket = await page(stage, stage.name('USR001'));
    await socket.ask({ type: 'ping' }, { type: 'pong' });
    const channels = ['alerts', 'prices'];
    await socket.ask({ type: 'subscribe', channels }, { type: 'subscribed', channels, message: ANY_TEXT });
    await socket.ask({ type: 'unsubscribe', channels }, { type: 'unsubscribed', channels, message: ANY_TEXT });
  },

  get_balance: (stage) => {
    const message = { type: 'get_balance', account: 'savings' };
    return asks(stage, 'finance.USER.balance', message, message, { reply: 45000.5 }, { balance: 45000.5 });
  },

  get_transactions: (stage) => {
    const message = { type: 'get_transactions', limit: 2 };
    const reply = [
      { id: 'TXN9', amount: -5000 },
      { id: 'TXN8', amount: 200 },
    ];
    return asks(stage, 'finance.USER.transactions', message, message, { reply }, { transactions: reply });
  },

  execute_tool: async (stage) => {
    const tool = stage.name('loan_calculator');
    const params = { amount: 100000 };
    const message = { type: 'execute_tool', tool, params };
    await asks(stage, `tools.${tool}.USER`, message, params, { reply: { emi: 8792 } }, { tool, result: { emi: 8792 } });
    await asks(stage, `tools.${tool}.USER`, { type: 'execute_tool', tool }, null, { reply: 1 }, { tool, result: 1 });
    for (const [name, given] of [
      ['tool', 'arguments'],
      ['tool', 'args'],
      ['tool_name', 'arguments'],
      ['tool_name', 'parameters'],
    ]) {
      const named = { type: 'execute_tool', [name]: tool, [given]: params };
      await asks(stage, `tools.${tool}.USER`, named, params, { reply: 2 }, { tool, result: 2 });
    }
    await asks(
      stage,
      `tools.${tool}.USER`,
      message,
      params,
      { fails: 'no such loan' },
      error('service', 'no such loan'),
    );
  },

  acknowledge_alert: (stage) => {
    const message = { type: 'acknowledge_alert', alert_id: 'alert-7' };
    return asks(
      stage,
      'finance.USER.acknowledge',
      message,
      message,
      { reply: { ok: true } },
      { acknowledged: 'alert-7' },
    );
  },

  errors: async (stage) => {
    const socket = await page(stage, stage.name('USR001'));
    await socket.ask({ type: 'get_balance' }, error('no_responders'));
    const refused = { jsonrpc: '2.0', error: { code: -32601, message: ANY_TEXT }, id: 3 };
    const request = { jsonrpc: '2.0', method: 'nope', id: 3 };
    const response = { type: 'response', result: refused, timestamp: MILLISECONDS };
    await socket.ask({ type: 'request', request }, response);
    await socket.ask({ type: 'execute_tool', tool: 'a.b' }, error('bad_channel'));
    await socket.ask({ type: 'execute_tool' }, error('bad_request', '`tool` is missing'));
    await socket.ask({ type: 'acknowledge_alert' }, error('bad_request', '`alert_id` is missing'));
    await socket.ask({ type: 'dance' }, error('unknown_type', 'unknown type: dance'));
    await socket.ask('{"type":', error('not_json'));
    await socket.ask('[]', error('not_json'));
  },
};
