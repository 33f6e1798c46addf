// Sentio (document 003): a socket for each stream, `action` in place of `type`, and REST for pages without a socket.

import { ANY, ANY_TEXT, NAIVE, Wrong, eventually, same, short, sleep } from './kit.mjs';

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
const signals = (...symbols) => message('trade_signals', symbols.map(signal));
const quote = (symbol, members) => ({ symbol, price: 190.1, change: 0.5, change_pct: 0.3, ...members });
/** Unique symbols, in capitals as all symbols of Sentio. */
const symbols = (stage, ...names) => names.map((name) => stage.name(name).toUpperCase());
const error = (text = ANY_TEXT) => ({ type: 'error', message: text, timestamp: NAIVE });
const done = (socket) => socket.ask({ action: 'ping' }, PONG);

/** The page's first message, with the user's token. */
async function subscribe(stage, user, members) {
  return { action: 'subscribe', user_id: user, token: await stage.token(user), ...members };
}

/** Publishes a signal for each symbol until the page gets the list of all of them, so that all are live. */
async function shows(stage, socket, ...all) {
  const publish = async () => {
    for (const symbol of all) await stage.publish(`signals.${symbol}`, signal(symbol));
  };
  await socket.until(publish, signals(...all));
}

/** What a user sees of the signals: each list replaces all earlier ones, and an element that is no signal breaks the page. */
class SignalsView {
  #list = document.body.appendChild(document.createElement('ul'));
  /** Every state that it has shown. */
  states = [];

  set(all) {
    const items = all.map(({ symbol, signal: action }) => {
      const item = document.createElement('li');
      item.textContent = `${symbol}: ${action.toUpperCase()}`;
      return item;
    });
    this.#list.replaceChildren(...items);
    this.states.push(this.shown);
  }

  get shown() {
    return [...this.#list.children].map((item) => item.textContent);
  }

  /** Waits until it shows these lines. */
  async shows(...lines) {
    const deadline = performance.now() + 10_000;
    while (!same(lines, this.shown)) {
      if (performance.now() > deadline) throw new Wrong(`the page shows ${short(this.shown)}, not ${short(lines)}`);
      await sleep(20);
    }
  }

  /** Once a line is shown, it stays: the page is never blank, and never shows fewer symbols. */
  isNeverShorter() {
    const wrong = this.states.find((state, at) => state.length < (this.states[at - 1]?.length ?? 0) || !state.length);
    if (wrong) throw new Wrong(`the page showed ${short(wrong)} after more: ${short(this.states)}`);
  }
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
    const user = stage.name('user_001');
    const [aapl, googl, brk, msft] = symbols(stage, 'AAPL', 'GOOGL', 'BRK.B', 'MSFT');
    const socket = await stage.socket('/ws/trade-signals');
    // Small letters find their symbols, and symbols may have dots.
    socket.send(await subscribe(stage, user, { symbols: [aapl.toLowerCase(), googl, brk] }));
    await shows(stage, socket, aapl, googl, brk);
    // Each message has the newest signal of each of the page's symbols.
    await stage.publish(`signals.${msft}`, signal(msft));
    await stage.publish(`signals.${googl}`, { ...signal(googl), signal: 'sell' });
    const newest = [signal(aapl), { ...signal(googl), signal: 'sell' }, signal(brk)];
    await socket.expect(message('trade_signals', newest));
    await socket.quiet();
  },

  '/ws/trade-signals: a list is published': async (stage) => {
    const user = stage.name('user_001');
    const [aapl, googl, msft] = symbols(stage, 'AAPL', 'GOOGL', 'MSFT');
    const socket = await stage.socket('/ws/trade-signals');
    socket.send(await subscribe(stage, user, { symbols: [aapl, googl] }));
    const published = [signal(googl), signal(msft), signal(aapl)];
    await socket.until(() => stage.publish('signals', published), signals(aapl, googl));
    // A list without a signal for this page, and an empty one, send nothing.
    await stage.publish('signals', [signal(msft)]);
    await stage.publish('signals', []);
    await stage.publish(`signals.${aapl}`, []);
    await socket.quiet();
  },

  'the page shows all its symbols: published one by one, as a list, and as an empty list': async (stage) => {
    const user = stage.name('user_001');
    const [aapl, googl, msft, tsla] = symbols(stage, 'AAPL', 'GOOGL', 'MSFT', 'TSLA');
    const view = new SignalsView();
    const socket = await stage.socket('/ws/trade-signals');
    socket.ws.addEventListener('message', ({ data }) => {
      const { type, data: list } = JSON.parse(data);
      if (type === 'trade_signals') view.set(list);
    });
    socket.send(await subscribe(stage, user, { symbols: [aapl, googl, msft] }));
    await shows(stage, socket, aapl, googl, msft);
    await view.shows(`${aapl}: BUY`, `${googl}: BUY`, `${msft}: BUY`);
    for (const symbol of [aapl, googl, msft]) {
      await stage.publish(`signals.${symbol}`, { ...signal(symbol), signal: 'sell' });
    }
    await view.shows(`${aapl}: SELL`, `${googl}: SELL`, `${msft}: SELL`);
    const list = [msft, tsla, aapl].map((symbol) => ({ ...signal(symbol), signal: 'hold' }));
    await stage.publish('signals', list);
    await view.shows(`${aapl}: HOLD`, `${googl}: SELL`, `${msft}: HOLD`);
    for (const subject of ['signals', `signals.${aapl}`]) await stage.publish(subject, []);
    await sleep(300);
    await view.shows(`${aapl}: HOLD`, `${googl}: SELL`, `${msft}: HOLD`);
    view.isNeverShorter();
  },

  'the page shows all its symbols by REST': async (stage) => {
    const [aapl, googl, msft] = symbols(stage, 'AAPL', 'GOOGL', 'MSFT');
    const view = new SignalsView();
    const query = [aapl, googl, msft].map((symbol) => `symbols[]=${symbol}`).join('&');
    // As the page polls, without a socket, a token or an earlier call.
    const polls = (...lines) =>
      eventually(async () => {
        const [status, got] = await stage.http('GET', `${REST}/trade-signals?${query}`);
        if (status !== 200) throw new Wrong(`the answer is ${status}`);
        view.set(got.signals);
        if (!same(lines, view.shown)) throw new Wrong(`the page shows ${short(view.shown)}, not ${short(lines)}`);
      });
    for (const symbol of [aapl, googl, msft]) await stage.publish(`signals.${symbol}`, signal(symbol));
    await polls(`${aapl}: BUY`, `${googl}: BUY`, `${msft}: BUY`);
    await stage.publish(
      'signals',
      [msft, aapl].map((symbol) => ({ ...signal(symbol), signal: 'hold' })),
    );
    await polls(`${aapl}: HOLD`, `${googl}: BUY`, `${msft}: HOLD`);
    for (const subject of ['signals', `signals.${aapl}`]) await stage.publish(subject, []);
    await sleep(300);
    await polls(`${aapl}: HOLD`, `${googl}: BUY`, `${msft}: HOLD`);
  },

  '/ws/trade-signals: unsubscribe': async (stage) => {
    const user = stage.name('user_001');
    const [aapl, googl] = symbols(stage, 'AAPL', 'GOOGL');
    const socket = await stage.socket('/ws/trade-signals');
    socket.send(await subscribe(stage, user, { symbols: [aapl, googl] }));
    await shows(stage, socket, aapl, googl);
    socket.send({ action: 'unsubscribe', symbols: [aapl] });
    await done(socket);
    for (const symbol of [aapl, googl]) await stage.publish(`signals.${symbol}`, signal(symbol));
    await socket.expect(signals(googl));
    await socket.quiet();
    socket.send({ action: 'unsubscribe' });
    await done(socket);
    await stage.publish(`signals.${googl}`, signal(googl));
    await socket.quiet();
  },

  '/ws/trade-signals: the last signals arrive at once, in one message': async (stage) => {
    const user = stage.name('user_001');
    const [aapl, googl] = symbols(stage, 'AAPL', 'GOOGL');
    for (const symbol of [aapl, googl]) await stage.publish(`signals.${symbol}`, signal(symbol));
    // Every node keeps them from its start on, without a page.
    await eventually(async () => {
      const socket = await stage.socket('/ws/trade-signals');
      socket.send(await subscribe(stage, user, { symbols: [aapl, googl] }));
      await socket.expect(signals(aapl, googl), 1000);
      await socket.quiet();
    });
  },

  'a page without a token': async (stage) => {
    const user = stage.name('user_001');
    const [aapl] = symbols(stage, 'AAPL');
    const socket = await stage.socket('/ws/trade-signals');
    // The user that it names is ignored.
    socket.send({ action: 'subscribe', symbols: [aapl], user_id: user });
    await shows(stage, socket, aapl);
    const own = await stage.socket('/ws/notifications');
    await own.ask({ action: 'subscribe', user_id: user }, error());
    await stage.publish(`user.${user}.notifications`, { title: 'not yours' });
    await own.quiet();
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
    // With a wrong token, the page stays one without a token.
    await stranger.ask({ action: 'subscribe', admin_token: 'admin-token' }, error());
    await stranger.ask({ action: 'subscribe' }, error());
    await stage.publish('admin.users', USERS);
    await stranger.quiet();
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

  // The admin page of the public server opens a second socket, sends its token as bare text, and breaks on any message
  // that it does not know.
  '/ws/admin: text that is no JSON ends the connection without a message': async (stage) => {
    const socket = await stage.socket('/ws/admin');
    socket.send('admin-token');
    await socket.isClosedWith(4400);
    await socket.quiet();
  },

  '/ws/market-data': async (stage) => {
    const user = stage.name('user_001');
    const [aapl, brk] = symbols(stage, 'AAPL', 'BRK.B');
    const socket = await stage.socket('/ws/market-data');
    socket.send(await subscribe(stage, user, { symbols: [aapl.toLowerCase()] }));
    for (const subject of [`prices.${aapl}`, `market.${aapl}`]) {
      await socket.live(subject);
      await stage.publish(subject, quote(aapl));
      await socket.expect(message('update', [quote(aapl)]));
    }
    socket.send({ action: 'subscribe', symbols: [brk] });
    await socket.live(`prices.${brk}`);
    socket.send({ action: 'unsubscribe', symbols: [aapl] });
    await done(socket);
    await stage.publish(`prices.${aapl}`, quote(aapl));
    // Tidegate writes the symbol if the producer has not.
    await stage.publish(`prices.${brk}`, { price: 5 });
    await socket.expect(message('update', [{ symbol: brk, price: 5 }]));
    await socket.quiet();
    socket.send({ action: 'subscribe' });
    await socket.live(`prices.${aapl}`);
  },

  error: async (stage) => {
    const [user, other] = [stage.name('user_001'), stage.name('user_002')];
    const socket = await stage.socket('/ws/trade-signals');
    await socket.ask(await subscribe(stage, user, { symbols: ['*'] }), error());
    await socket.ask({ action: 'dance' }, error('Unknown action: dance'));
    await socket.ask({ action: 'subscribe', symbols: ['AAPL'], user_id: other }, error());
    await socket.ask({ action: 'subscribe', symbols: 'AAPL' }, error());
    socket.send('{');
    await socket.isClosedWith(4400);
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
    const [aapl, brk, tsla] = symbols(stage, 'AAPL', 'BRK.B', 'TSLA');
    const path = `${REST}/trade-signals`;
    const token = await stage.token(stage.name('user_001'));
    const wanted = { signals: [signal(aapl), signal(brk)], count: 2, timestamp: NAIVE };
    // No page has subscribed before, and the first poll finds the signals, however they were published.
    await stage.publish(`signals.${aapl}`, [signal(aapl)]);
    await stage.publish(`signals.${brk}`, signal(brk));
    for (const query of [`symbols=${aapl},${brk.toLowerCase()},${tsla}`, `symbols[]=${aapl}&symbols[]=${brk}`]) {
      await eventually(() => stage.answers(200, wanted, 'GET', `${path}?${query}`, { token }));
    }
    const [status, got] = await stage.http('GET', path);
    if (status !== 200 || got.count < 2) throw new Wrong(`without symbols: ${status} ${short(got)}`);
    await stage.answers(400, ANY, 'GET', `${path}?symbols=AAPL,*`, { token });
  },

  'REST: earnings': async (stage) => {
    const [user, other] = [stage.name('user_001'), stage.name('user_002')];
    const token = await stage.token(user);
    await stage.publish(`user.${user}.earnings`, EARNINGS);
    for (const path of [`${REST}/earnings?user_id=${user}`, `${REST}/earnings`]) {
      await eventually(() => stage.answers(200, EARNINGS, 'GET', path, { token }));
    }
    await stage.answers(403, ANY, 'GET', `${REST}/earnings?user_id=${user}`, { token: await stage.token(other) });
    await stage.answers(404, ANY, 'GET', `${REST}/earnings`, { token: await stage.token(other) });
    await stage.answers(403, ANY, 'GET', `${REST}/earnings`);
  },

  'REST: notifications': async (stage) => {
    const [user, other] = [stage.name('user_001'), stage.name('user_002')];
    const [token, others] = [await stage.token(user), await stage.token(other)];
    const path = `${REST}/notifications`;
    await stage.publish(`user.${user}.notifications`, NOTIFICATION);
    const wanted = { notifications: [NOTIFICATION], count: 1, timestamp: NAIVE };
    for (const call of [`${path}?user_id=${user}`, path]) {
      await eventually(() => stage.answers(200, wanted, 'GET', call, { token }));
    }
    await stage.answers(200, { notifications: [], count: 0, timestamp: NAIVE }, 'GET', path, { token: others });
    await stage.answers(403, ANY, 'GET', `${path}?user_id=${user}`, { token: others });
    await stage.answers(403, ANY, 'GET', path);
  },

  'REST: admin': async (stage) => {
    const token = await stage.token(stage.name('root'), 'admin');
    await stage.publish('admin.users', USERS);
    // The second path is that of the public pages.
    for (const path of [`${REST}/admin/users`, '/api/v1/admin/users']) {
      await eventually(() => stage.answers(200, USERS, 'GET', path, { token }));
      await stage.answers(404, ANY, 'GET', `${path}-nothing`, { token });
      await stage.answers(403, ANY, 'GET', path, { token: await stage.token(stage.name('user_001')) });
      await stage.answers(403, ANY, 'GET', path);
    }
    await stage.answers(400, ANY, 'GET', `${REST}/admin/%2A`, { token });
  },

  'REST: market-data': async (stage) => {
    const [aapl, brk, tsla] = symbols(stage, 'AAPL', 'BRK.B', 'TSLA');
    const path = `${REST}/market-data`;
    await stage.publish(`prices.${aapl}`, quote(aapl));
    await stage.publish(`market.${brk}`, quote(brk));
    const wanted = { market_data: [quote(aapl), quote(brk)], count: 2, timestamp: NAIVE };
    for (const query of [`symbols=${aapl},${brk},${tsla}`, `symbols[]=${aapl}&symbols[]=${brk}`]) {
      await eventually(() => stage.answers(200, wanted, 'GET', `${path}?${query}`));
    }
    await stage.answers(400, ANY, 'GET', `${path}?symbols=AAPL,*`);
    await stage.answers(404, ANY, 'GET', `/api/v1/market/quote/${tsla}`);
  },
};
