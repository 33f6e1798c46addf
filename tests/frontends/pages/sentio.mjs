// Sentio (document 003): a socket for each stream, `action` in place of `type`, and REST for pages without a socket.

import { ANY, ANY_TEXT, NAIVE, Wrong, eventually } from './kit.mjs';

const PONG = { type: 'pong', timestamp: NAIVE };
const EARNINGS = { portfolio_value: 100000, total_return: 5000, daily_pnl: 250, win_rate: 0.65 };
const NOTIFICATION = {
  type: 'success',
  title: 'Trade Executed',
  message: 'Your AAPL buy order has been executed',
  timestamp: '2024-10-05T10:30:00',
};
const USERS = { total_users: 150, active_subscriptions: 120, monthly_revenue: 15000 };
const REST = '/api/v1/dashboard';

const signal = (symbol) => ({ symbol, signal: 'buy', confidence: 0.85, timestamp: '2024-10-05T10:30:00' });
const message = (type, data) => ({ type, data, timestamp: NAIVE });
const signals = (symbol) => message('trade_signals', [signal(symbol)]);
const error = (text = ANY_TEXT) => ({ type: 'error', message: text, timestamp: NAIVE });
const done = (socket) => socket.ask({ action: 'ping' }, PONG);

/** The page's first message, with the user's token. */
async function subscribe(stage, user, members) {
  return { action: 'subscribe', user_id: user, token: await stage.token(user), ...members };
}

const own = (path, subject, type, data) => async (stage) => {
  const [user, other] = [stage.name('user_001'), stage.name('user_002')];
  const socket = await stage.socket(`/ws/${path}`);
  socket.send(await subscribe(stage, user));
  await socket.live(`user.${user}.${subject}`);
  await stage.publish(`user.${other}.${subject}`, { not: 'yours' });
  await stage.publish(`user.${user}.${subject}`, data);
  await socket.expect(message(type, data));
  socket.send({ action: 'unsubscribe' });
  await done(socket);
  await stage.publish(`user.${user}.${subject}`, data);
  await socket.quiet();
};

export const rows = {
  '/ws/trade-signals: subscribe': async (stage) => {
    const [user, aapl, googl, msft] = ['user_001', 'AAPL', 'GOOGL', 'MSFT'].map((it) => stage.name(it));
    const socket = await stage.socket('/ws/trade-signals');
    socket.send(await subscribe(stage, user, { symbols: [aapl, googl] }));
    await socket.live(`signals.${aapl}`);
    await socket.live(`signals.${googl}`);
    await stage.publish(`signals.${msft}`, signal(msft));
    for (const symbol of [aapl, googl]) {
      await stage.publish(`signals.${symbol}`, signal(symbol));
      await socket.expect(signals(symbol));
    }
    await socket.quiet();
  },

  '/ws/trade-signals: a list is published': async (stage) => {
    const [user, aapl, googl] = ['user_001', 'AAPL', 'GOOGL'].map((it) => stage.name(it));
    const socket = await stage.socket('/ws/trade-signals');
    socket.send(await subscribe(stage, user, { symbols: [aapl] }));
    await socket.live(`signals.${aapl}`);
    for (const published of [[signal(aapl)], [signal(aapl), signal(googl)]]) {
      await stage.publish(`signals.${aapl}`, published);
      await socket.expect(message('trade_signals', published));
    }
    await socket.quiet();
  },

  '/ws/trade-signals: unsubscribe': async (stage) => {
    const [user, aapl, googl, msft] = ['user_001', 'AAPL', 'GOOGL', 'MSFT'].map((it) => stage.name(it));
    const socket = await stage.socket('/ws/trade-signals');
    socket.send(await subscribe(stage, user, { symbols: [aapl, googl] }));
    await socket.live(`signals.${aapl}`);
    await socket.live(`signals.${googl}`);
    socket.send({ action: 'unsubscribe', symbols: [aapl] });
    await done(socket);
    for (const symbol of [aapl, googl]) await stage.publish(`signals.${symbol}`, signal(symbol));
    await socket.expect(signals(googl));
    await socket.quiet();
    socket.send({ action: 'unsubscribe' });
    await done(socket);
    await stage.publish(`signals.${googl}`, signal(googl));
    await socket.quiet();
    // Without symbols the page gets all symbols, also the last signals of other rows.
    socket.only = msft;
    socket.send({ action: 'subscribe' });
    await socket.live(`signals.${msft}`);
    await stage.publish(`signals.${msft}`, signal(msft));
    await socket.expect(signals(msft));
  },

  '/ws/trade-signals: the last signal arrives at once': async (stage) => {
    const [user, aapl] = [stage.name('user_001'), stage.name('AAPL')];
    const another = async () => {
      const socket = await stage.socket('/ws/trade-signals');
      socket.send(await subscribe(stage, user, { symbols: [aapl] }));
      return socket;
    };
    const first = await another();
    await first.live(`signals.${aapl}`);
    // A node has the last signal if a client is subscribed there. The load balancer may use another node next.
    await eventually(async () => {
      await stage.publish(`signals.${aapl}`, signal(aapl));
      const socket = await another();
      await socket.expect(signals(aapl), 1000);
    });
  },

  ping: async (stage) => {
    for (const path of ['trade-signals', 'earnings', 'notifications', 'admin', 'market-data']) {
      const socket = await stage.socket(`/ws/${path}`);
      await socket.ask({ action: 'ping' }, PONG);
    }
    const socket = await stage.socket('/ws/earnings');
    socket.send(await subscribe(stage, stage.name('user_001')));
    await socket.ask({ action: 'ping' }, PONG);
  },

  '/ws/earnings': own('earnings', 'earnings', 'earnings', EARNINGS),
  '/ws/notifications': own('notifications', 'notifications', 'notification', NOTIFICATION),

  '/ws/admin with admin_token': async (stage) => {
    const socket = await stage.socket('/ws/admin');
    socket.send({ action: 'subscribe', admin_token: await stage.token(stage.name('root'), 'admin') });
    // The last messages of other rows arrive too.
    socket.only = stage.tag;
    await socket.live('admin.users');
    await socket.live('admin.revenue');
    for (const [what, data] of [
      ['users', USERS],
      ['revenue', { monthly_revenue: 15000 }],
    ]) {
      const mine = { ...data, tag: stage.tag };
      await stage.publish(`admin.${what}`, mine);
      await socket.expect(message(`admin_${what}`, mine));
    }
    await socket.quiet();
  },

  '/ws/admin without the right': async (stage) => {
    const user = await stage.socket('/ws/admin');
    await user.ask({ action: 'subscribe', admin_token: await stage.token(stage.name('user_001')) }, error());
    await stage.publish('admin.users', USERS);
    await user.quiet();
    const stranger = await stage.socket('/ws/admin');
    await stranger.ask({ action: 'subscribe', admin_token: 'admin-token' }, error());
    await stranger.isClosedWith(4501);
  },

  '/ws/admin with an API key': async (stage) => {
    const socket = await stage.socket('/ws/admin');
    socket.only = stage.tag;
    socket.send({ action: 'subscribe', admin_token: stage.key() });
    await socket.live('admin.users');
    const users = { ...USERS, tag: stage.tag };
    await stage.publish('admin.users', users);
    await socket.expect(message('admin_users', users));
  },

  '/ws/market-data': async (stage) => {
    const [user, aapl, googl] = ['user_001', 'AAPL', 'GOOGL'].map((it) => stage.name(it));
    const socket = await stage.socket('/ws/market-data');
    socket.send(await subscribe(stage, user, { symbols: [aapl] }));
    await socket.live(`market.${aapl}`);
    await stage.publish(`market.${aapl}`, { price: 190.1 });
    await socket.expect(message('market_data', { price: 190.1 }));
    socket.send({ action: 'subscribe', symbols: [googl] });
    await socket.live(`market.${googl}`);
    socket.send({ action: 'unsubscribe', symbols: [aapl] });
    await done(socket);
    await stage.publish(`market.${aapl}`, { price: 190.2 });
    await stage.publish(`market.${googl}`, { price: 5 });
    await socket.expect(message('market_data', { price: 5 }));
    await socket.quiet();
    socket.send({ action: 'subscribe' });
    await socket.live(`market.${aapl}`);
  },

  error: async (stage) => {
    const [user, other] = [stage.name('user_001'), stage.name('user_002')];
    const socket = await stage.socket('/ws/trade-signals');
    await socket.ask({ action: 'subscribe', symbols: ['AAPL'], user_id: user }, error());
    await socket.ask(await subscribe(stage, user, { symbols: ['*'] }), error());
    await socket.ask({ action: 'dance' }, error('Unknown action: dance'));
    await socket.ask({ action: 'subscribe', symbols: ['AAPL'], user_id: other }, error());
    await socket.ask({ action: 'subscribe', symbols: 'AAPL' }, error());
    await socket.ask('{', error());
  },

  'a token as a subprotocol': async (stage) => {
    const user = stage.name('test_user');
    const bearer = btoa(await stage.token(user))
      .replaceAll('+', '-')
      .replaceAll('/', '_')
      .replaceAll('=', '');
    const socket = await stage.socket('/ws/notifications', ['sentio', `base64url.bearer.${bearer}`]);
    if (socket.ws.protocol !== 'sentio') throw new Wrong(`the subprotocol is "${socket.ws.protocol}", not sentio`);
    socket.send({ action: 'subscribe', user_id: user });
    await socket.live(`user.${user}.notifications`);
  },

  'REST: trade-signals': async (stage) => {
    const [user, aapl, googl, tsla] = ['user_001', 'AAPL', 'GOOGL', 'TSLA'].map((it) => stage.name(it));
    const path = `${REST}/trade-signals?symbols=${aapl},${googl},${tsla}`;
    const token = await stage.token(user);
    const socket = await stage.socket('/ws/trade-signals');
    socket.send(await subscribe(stage, user, { symbols: [aapl, googl] }));
    // Every node returns what one page is subscribed to.
    for (const symbol of [aapl, googl]) {
      await socket.live(`signals.${symbol}`);
      await stage.publish(`signals.${symbol}`, signal(symbol));
      await socket.expect(signals(symbol));
    }
    await eventually(async () => {
      const wanted = { signals: [signal(aapl), signal(googl)], count: 2, timestamp: NAIVE };
      await stage.answers(200, wanted, 'GET', path, { token });
    });
    await stage.answers(400, ANY, 'GET', `${REST}/trade-signals?symbols=AAPL,*`, { token });
    await stage.answers(400, ANY, 'GET', `${REST}/trade-signals`, { token });
    await stage.answers(401, ANY, 'GET', path);
  },

  'REST: earnings': async (stage) => {
    const [user, other] = [stage.name('user_001'), stage.name('user_002')];
    const token = await stage.token(user);
    const socket = await stage.socket('/ws/earnings');
    socket.send(await subscribe(stage, user));
    await socket.live(`user.${user}.earnings`);
    await stage.publish(`user.${user}.earnings`, EARNINGS);
    for (const path of [`${REST}/earnings?user_id=${user}`, `${REST}/earnings`]) {
      await eventually(() => stage.answers(200, EARNINGS, 'GET', path, { token }));
    }
    await stage.answers(403, ANY, 'GET', `${REST}/earnings?user_id=${user}`, { token: await stage.token(other) });
    await stage.answers(404, ANY, 'GET', `${REST}/earnings`, { token: await stage.token(other) });
    await stage.answers(401, ANY, 'GET', `${REST}/earnings`);
  },

  'REST: notifications': async (stage) => {
    const [user, other] = [stage.name('user_001'), stage.name('user_002')];
    const [token, others] = [await stage.token(user), await stage.token(other)];
    const path = `${REST}/notifications`;
    const socket = await stage.socket('/ws/notifications');
    socket.send(await subscribe(stage, user));
    await socket.live(`user.${user}.notifications`);
    await stage.publish(`user.${user}.notifications`, NOTIFICATION);
    const wanted = { notifications: [NOTIFICATION], count: 1, timestamp: NAIVE };
    for (const call of [`${path}?user_id=${user}`, path]) {
      await eventually(() => stage.answers(200, wanted, 'GET', call, { token }));
    }
    await stage.answers(200, { notifications: [], count: 0, timestamp: NAIVE }, 'GET', path, { token: others });
    await stage.answers(403, ANY, 'GET', `${path}?user_id=${user}`, { token: others });
    await stage.answers(401, ANY, 'GET', path);
  },

  'REST: admin': async (stage) => {
    const token = await stage.token(stage.name('root'), 'admin');
    const path = `${REST}/admin/users`;
    // A dashboard with a socket subscribes to admin.*. Nodes keep the values of one subject from the first call on.
    await eventually(async () => {
      await stage.publish('admin.users', USERS);
      await stage.answers(200, USERS, 'GET', path, { token });
    });
    await stage.answers(404, ANY, 'GET', `${path}-nothing`, { token });
    await stage.answers(400, ANY, 'GET', `${REST}/admin/%2A`, { token });
    await stage.answers(403, ANY, 'GET', path, { token: await stage.token(stage.name('user_001')) });
    await stage.answers(401, ANY, 'GET', path);
  },

  'REST: market-data': async (stage) => {
    const [user, aapl, googl, tsla] = ['user_001', 'AAPL', 'GOOGL', 'TSLA'].map((it) => stage.name(it));
    const path = `${REST}/market-data?symbols=${aapl},${googl},${tsla}`;
    const token = await stage.token(user);
    const socket = await stage.socket('/ws/market-data');
    socket.send(await subscribe(stage, user, { symbols: [aapl, googl] }));
    for (const [symbol, price] of [
      [aapl, 190.1],
      [googl, 5],
    ]) {
      await socket.live(`market.${symbol}`);
      await stage.publish(`market.${symbol}`, { price });
    }
    const wanted = { market_data: [{ price: 190.1 }, { price: 5 }], count: 2, timestamp: NAIVE };
    await eventually(() => stage.answers(200, wanted, 'GET', path, { token }));
    await stage.answers(400, ANY, 'GET', `${REST}/market-data?symbols=AAPL,*`, { token });
    await stage.answers(400, ANY, 'GET', `${REST}/market-data`, { token });
    await stage.answers(401, ANY, 'GET', path);
  },
};
