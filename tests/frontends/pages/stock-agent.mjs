// Stock Agent (document 002): prices by symbol, alerts, signals, private messages, and calls between two users.

import { ANY, ANY_TEXT, SECONDS, Wrong, atLeast, eventually, same, short } from './kit.mjs';

const QUOTE = { price: 185.5, change: 2.3, change_pct: 1.26, volume: 45000000, bid: 185.45, ask: 185.55 };
const PONG = { type: 'pong', timestamp: SECONDS };

const subscribe = (channel, members) => ({ type: 'subscribe', channel, ...members });
const unsubscribe = (channel, members) => ({ type: 'unsubscribe', channel, ...members });
const update = (symbol, data) => ({ type: 'price_update', symbol, data, timestamp: SECONDS });
const error = (text = ANY_TEXT) => ({ type: 'error', error: text, timestamp: SECONDS });

const CHANNELS = ['prices', 'alerts', 'signals', 'portfolio', 'notifications'];

/** A page that has received the greeting. */
async function page(stage, client_id, token) {
  const socket = await stage.socket(`/ws/${client_id}${token ? `?token=${token}` : ''}`);
  await socket.expect({ type: 'connected', client_id, timestamp: SECONDS, available_channels: CHANNELS });
  return socket;
}

/** Subscribes. The answer says that the channel is live. */
async function join(socket, channel, members = {}) {
  const { only } = socket;
  socket.only = only && '"type":"subscribed"';
  const symbols = members.symbols ?? (channel === 'prices' ? [] : null);
  const servers = channel === 'webrtc' && { ice_servers: [] };
  const answer = { type: 'subscribed', channel, symbols, timestamp: SECONDS, ...servers };
  await socket.ask(subscribe(channel, members), answer);
  socket.only = only;
}

const leave = (socket, channel, members) =>
  socket.ask(unsubscribe(channel, members), { type: 'unsubscribed', channel, timestamp: SECONDS });

const pushed = (channel, subject, type, data) => async (stage) => {
  const socket = await page(stage, 'browser-test');
  // The last message of another row may arrive first.
  socket.only = stage.tag;
  await join(socket, channel);
  const mine = { ...data, tag: stage.tag };
  await stage.publish(subject, mine);
  await socket.expect({ type, data: mine, timestamp: SECONDS });
  await socket.quiet();
};

const ALERT = {
  id: 'alert-123',
  symbol: 'AAPL',
  type: 'price_threshold',
  message: 'AAPL crossed $185',
  severity: 'info',
};
const SIGNAL = { symbol: 'AAPL', action: 'buy', confidence: 0.85, reasoning: 'Strong bullish momentum...' };
const NOTIFICATION = { id: 'notif-456', message: 'Model training completed', type: 'success' };

export const rows = {
  '/ws/{client_id}': async (stage) => {
    const socket = await page(stage, stage.name('client-1'));
    await socket.quiet();
    await stage.refused('/ws/a/b', 404);
  },

  'prices with symbols': async (stage) => {
    const [aapl, msft, tsla] = ['AAPL', 'MSFT', 'TSLA'].map((it) => stage.name(it));
    const socket = await page(stage, 'test');
    await join(socket, 'prices', { symbols: [aapl] });
    await socket.live(`prices.${aapl}`);
    // A second list is added to the first.
    await join(socket, 'prices', { symbols: [msft] });
    await socket.live(`prices.${msft}`);
    await stage.publish(`prices.${tsla}`, QUOTE);
    for (const symbol of [aapl, msft]) {
      await stage.publish(`prices.${symbol}`, QUOTE);
      await socket.expect(update(symbol, QUOTE));
    }
    await socket.quiet();
  },

  'prices without symbols: all of them, each once': async (stage) => {
    const [aapl, msft] = [stage.name('AAPL'), stage.name('MSFT')];
    const socket = await page(stage, 'test');
    socket.only = stage.tag;
    await join(socket, 'prices', { symbols: [aapl] });
    await join(socket, 'prices');
    await socket.live(`prices.${msft}`);
    for (const symbol of [aapl, msft]) {
      await stage.publish(`prices.${symbol}`, { price: 1 });
      await socket.expect(update(symbol, { price: 1 }));
    }
    await socket.quiet();
  },

  'symbols with a dot': async (stage) => {
    const [aapl, brk] = [stage.name('AAPL'), `BRK.${stage.name('B')}`];
    const socket = await page(stage, 'test');
    await join(socket, 'prices', { symbols: [aapl, brk] });
    for (const symbol of [aapl, brk]) {
      await stage.publish(`prices.${symbol}`, QUOTE);
      await socket.expect(update(symbol, QUOTE));
    }
    await leave(socket, 'prices', { symbols: [brk] });
    await stage.publish(`prices.${brk}`, QUOTE);
    await socket.quiet();
  },

  'alerts: alerts': pushed('alerts', 'alerts', 'alert_triggered', ALERT),
  'signals: signals': pushed('signals', 'signals', 'trading_signal', SIGNAL),
  'portfolio: user.anonymous.portfolio': pushed('portfolio', 'user.anonymous.portfolio', 'portfolio_update', {
    value: 100000,
  }),
  'notifications: system.notifications': pushed('notifications', 'system.notifications', 'notification', NOTIFICATION),
  'notifications: user.anonymous.notifications': pushed(
    'notifications',
    'user.anonymous.notifications',
    'notification',
    NOTIFICATION,
  ),

  unsubscribe: async (stage) => {
    const [aapl, msft] = [stage.name('AAPL'), stage.name('MSFT')];
    const socket = await page(stage, 'test');
    await join(socket, 'alerts');
    await join(socket, 'prices', { symbols: [aapl, msft] });
    for (const subject of [`prices.${aapl}`, `prices.${msft}`, 'alerts']) await socket.live(subject);
    await leave(socket, 'prices', { symbols: [aapl] });
    await socket.ask({ type: 'ping' }, PONG);
    for (const symbol of [aapl, msft]) await stage.publish(`prices.${symbol}`, QUOTE);
    await socket.expect(update(msft, QUOTE));
    await socket.quiet();
    await leave(socket, 'prices');
    await socket.ask({ type: 'ping' }, PONG);
    await stage.publish(`prices.${msft}`, QUOTE);
    await stage.publish('alerts', { id: stage.tag });
    await socket.expect({ type: 'alert_triggered', data: { id: stage.tag }, timestamp: SECONDS });
    await socket.quiet();
  },

  'ping/pong': async (stage) => {
    const socket = await page(stage, 'test');
    await socket.ask({ type: 'ping' }, PONG);
  },

  error: async (stage) => {
    const socket = await page(stage, 'test');
    await socket.ask(subscribe('invalid_channel'), error('Unknown channel: invalid_channel'));
    await socket.ask(unsubscribe('invalid_channel'), error('Unknown channel: invalid_channel'));
    await socket.ask(subscribe('user.alice.portfolio'), error('Unknown channel: user.alice.portfolio'));
    await socket.ask(subscribe('prices', { symbols: ['*'] }), error());
    await socket.ask({ type: 'dance' }, error('Unknown message type: dance'));
    await socket.ask('{', error());
  },

  'a token in a message': async (stage) => {
    const alice = stage.name('alice');
    const socket = await page(stage, stage.name('alices-laptop'));
    await join(socket, 'portfolio', { token: await stage.token(alice) });
    await socket.live(`user.${alice}.portfolio`);
    await stage.publish('user.anonymous.portfolio', { value: 6 });
    await stage.publish(`user.${alice}.portfolio`, { value: 5 });
    await socket.expect({ type: 'portfolio_update', data: { value: 5 }, timestamp: SECONDS });
    await socket.quiet();
    await socket.ask(subscribe('portfolio', { token: await stage.token(stage.name('bob')) }), error());
  },

  'a token in the URL': async (stage) => {
    const alice = stage.name('alice');
    const socket = await page(stage, stage.name('alices-laptop'), await stage.token(alice));
    await join(socket, 'portfolio');
    await stage.publish(`user.${alice}.portfolio`, { value: 5 });
    await socket.expect({ type: 'portfolio_update', data: { value: 5 }, timestamp: SECONDS });
    await stage.refused('/ws/test?token=nonsense', 401);
  },

  'WebRTC signalling between two users': async (stage) => {
    const [alice, bob] = [stage.name('alice'), stage.name('bob')];
    const [first, second, guest] = [await page(stage, 'a'), await page(stage, 'b'), await page(stage, 'c')];
    for (const [socket, user] of [
      [first, alice],
      [second, bob],
    ]) {
      await join(socket, 'webrtc', { token: await stage.token(user) });
      await socket.live(`webrtc.${user}.somebody`);
    }
    first.send({ type: 'webrtc', to: bob, data: { sdp: 'offer' } });
    await second.expect({ type: 'webrtc', from: alice, data: { sdp: 'offer' }, timestamp: SECONDS });
    second.send({ type: 'webrtc', to: alice, data: { sdp: 'answer' } });
    await first.expect({ type: 'webrtc', from: bob, data: { sdp: 'answer' }, timestamp: SECONDS });
    await guest.ask({ type: 'webrtc', to: bob, data: 1 }, error());
    await guest.ask(subscribe('webrtc'), error());
    await first.ask({ type: 'webrtc', to: '*', data: 1 }, error());
    for (const socket of [first, second, guest]) await socket.quiet();
  },

  '/ws/stats': async (stage) => {
    const [one, two, aapl, msft] = ['client-1', 'client-2', 'AAPL', 'MSFT'].map((it) => stage.name(it));
    const [first, second] = [await page(stage, one), await page(stage, two)];
    await join(first, 'prices', { symbols: [aapl, msft] });
    await join(first, 'alerts');
    await join(second, 'signals');
    const token = await stage.token('root', 'admin');
    const shape = {
      total_connections: atLeast(1),
      clients: ANY,
      channel_subscriptions: ANY,
      symbol_subscriptions: ANY,
    };
    for (const [client, channels, symbols] of [
      [one, ['prices', 'alerts'], [aapl, msft]],
      [two, ['signals'], undefined],
    ]) {
      await eventually(async () => {
        const [status, got] = await stage.http('GET', '/ws/stats', { token });
        const right = status === 200 && same(shape, got) && got.clients.includes(client);
        if (
          !right ||
          !same(channels, got.channel_subscriptions[client]) ||
          !same(symbols ?? null, got.symbol_subscriptions[client] ?? null)
        ) {
          throw new Wrong(
            `GET /ws/stats as admin: ${client} with ${channels} and ${symbols} is not in ${status} ${short(got)}`,
          );
        }
      });
    }
    const counts = { total_connections: atLeast(0), clients: [], channel_subscriptions: {}, symbol_subscriptions: {} };
    await stage.answers(200, counts, 'GET', '/ws/stats');
  },

  '/health': (stage) => stage.answers(200, { status: 'ok' }, 'GET', '/health'),
};
