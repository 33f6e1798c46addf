// hoardrun (document 001): notifications, transactions and balances on one socket, rooms, and broadcasts over HTTP.

import { ANY, ANY_TEXT, MILLISECONDS, Wrong, atLeast, eventually, same, short } from './kit.mjs';

const PONG = { type: 'pong', timestamp: MILLISECONDS };
const NOTIFICATION = {
  id: 'n1',
  title: 'Login',
  message: 'New device',
  type: 'security',
  priority: 'high',
  metadata: {},
  created_at: '2025-01-05T10:00:00',
};
const TRANSACTION = { transaction_id: 't1', status: 'completed', amount: 120.5, timestamp: '2025-01-05T10:00:01' };

/** A page that has received the greeting. */
async function page(stage, user) {
  const socket = await stage.socket(`/ws/notifications?token=${await stage.token(user)}`);
  await socket.expect({ type: 'connection_established', user_id: user, timestamp: MILLISECONDS });
  return socket;
}

async function join(socket, room) {
  socket.send({ type: 'join_room', room });
  await socket.live(`room.${room}`);
}

const pushed = (type, subject, data) => async (stage) => {
  const [user, other] = [stage.name('u1'), stage.name('u2')];
  const socket = await page(stage, user);
  await socket.live(subject.replace('USER', user));
  if (subject.includes('USER')) await stage.publish(subject.replace('USER', other), { not: 'yours' });
  const mine = { ...data, tag: stage.tag };
  await stage.publish(subject.replace('USER', user), mine);
  await socket.expect({ type, data: mine });
  await socket.quiet();
};

const broadcast = (what, subject, type) => async (stage) => {
  const [user, room] = [stage.name('u1'), stage.name('crypto')];
  const path = `/ws/broadcast/${what}`;
  const token = await stage.token('backend', 'backend');
  const data = { what, tag: stage.tag };
  const to = { ...(subject.includes('USER') && { user_id: user }), ...(subject.includes('ROOM') && { room }) };
  const socket = await page(stage, user);
  if (to.room) await join(socket, room);
  await socket.live(subject.replace('USER', user).replace('ROOM', room));
  await stage.answers(200, { success: true }, 'POST', path, { token, body: { ...to, data } });
  await socket.expect({ type, data });
  await stage.answers(403, ANY, 'POST', path, { token: await stage.token(user), body: { ...to, data } });
  await stage.answers(401, ANY, 'POST', path, { body: { ...to, data } });
  await stage.answers(400, ANY, 'POST', path, { token, body: to });
  await stage.answers(400, ANY, 'POST', path, { token });
  if (to.user_id) {
    await stage.answers(400, ANY, 'POST', path, { token, body: { user_id: '*', data } });
    await stage.answers(400, ANY, 'POST', path, { token, body: { data } });
  }
  await socket.quiet();
};

export const rows = {
  '/ws/notifications?token=': async (stage) => {
    await stage.refused('/ws/notifications', 401);
    await stage.refused('/ws/notifications?token=nonsense', 401);
    const socket = await page(stage, stage.name('u1'));
    await socket.quiet();
  },

  connection_established: (stage) => page(stage, stage.name('u1')),

  ping: async (stage) => {
    const socket = await page(stage, stage.name('u1'));
    await socket.ask({ type: 'ping' }, PONG);
  },

  join_room: async (stage) => {
    const [crypto, forex, stocks] = ['crypto', 'forex', 'stocks'].map((it) => stage.name(it));
    const socket = await page(stage, stage.name('u1'));
    for (const room of [crypto, forex, forex]) socket.send({ type: 'join_room', room });
    for (const room of [crypto, forex]) await socket.live(`room.${room}`);
    await stage.publish(`room.${stocks}`, { symbol: 'AAPL' });
    for (const [room, data] of [
      [crypto, { symbol: 'BTC', price: 1 }],
      [forex, { pair: 'EURUSD' }],
    ]) {
      await stage.publish(`room.${room}`, data);
      await socket.expect({ type: 'market_update', data });
    }
    await socket.quiet();
  },

  leave_room: async (stage) => {
    const [crypto, forex] = [stage.name('crypto'), stage.name('forex')];
    const socket = await page(stage, stage.name('u1'));
    for (const room of [crypto, forex]) await join(socket, room);
    socket.send({ type: 'leave_room', room: crypto });
    socket.send({ type: 'leave_room', room: stage.name('nowhere') });
    await socket.ask({ type: 'ping' }, PONG);
    await stage.publish(`room.${crypto}`, { symbol: 'BTC' });
    await stage.publish(`room.${forex}`, { pair: 'EURUSD' });
    await socket.expect({ type: 'market_update', data: { pair: 'EURUSD' } });
    await socket.quiet();
  },

  subscribe_notifications: async (stage) => {
    const user = stage.name('u1');
    const socket = await page(stage, user);
    await socket.live(`user.${user}.notifications`, { type: 'savings' });
    await socket.live(`user.${user}.balance`);
    for (const [types, wanted, unwanted] of [
      [['transaction', 'balance', 'security'], 'security', 'savings'],
      [['savings'], 'savings', 'security'],
    ]) {
      socket.send({ type: 'subscribe_notifications', types });
      await socket.ask({ type: 'ping' }, PONG);
      await stage.publish(`user.${user}.notifications`, { id: 'n2', type: unwanted });
      await stage.publish(`user.${user}.notifications`, { id: 'n3' });
      await stage.publish(`user.${user}.notifications`, { id: 'n4', type: wanted });
      await socket.expect({ type: 'notification', data: { id: 'n4', type: wanted } });
      await socket.quiet();
    }
    await stage.publish(`user.${user}.balance`, { balance: 1 });
    await socket.expect({ type: 'balance_update', data: { balance: 1 } });
  },

  notification: pushed('notification', 'user.USER.notifications', NOTIFICATION),
  transaction_update: pushed('transaction_update', 'user.USER.transactions', TRANSACTION),
  balance_update: pushed('balance_update', 'user.USER.balance', { balance: 879.5, currency: 'USD' }),
  system_announcement: pushed('system_announcement', 'system.announcements', {
    title: 'Maintenance',
    message: 'tonight',
  }),

  market_update: async (stage) => {
    const room = stage.name('market_data');
    const socket = await page(stage, stage.name('u1'));
    await join(socket, room);
    await stage.publish(`room.${room}`, { symbol: 'AAPL', price: 190.1 });
    await socket.expect({ type: 'market_update', data: { symbol: 'AAPL', price: 190.1 } });
  },

  error: async (stage) => {
    const socket = await page(stage, stage.name('u1'));
    await socket.ask({ type: 'dance' }, { type: 'error', message: 'Unknown message type: dance' });
    await socket.ask({ type: 'join_room', room: 'a.b' }, { type: 'error', message: ANY_TEXT });
    for (const [type, member] of [
      ['join_room', 'room'],
      ['leave_room', 'room'],
      ['subscribe_notifications', 'types'],
    ]) {
      await socket.ask({ type }, { type: 'error', message: `\`${member}\` is missing` });
    }
    await socket.ask({ type: 'subscribe_notifications', types: 'security' }, { type: 'error', message: ANY_TEXT });
    await socket.ask('{', { type: 'error', message: ANY_TEXT });
  },

  'several sockets per user': async (stage) => {
    const user = stage.name('u1');
    const [phone, laptop] = [await page(stage, user), await page(stage, user)];
    for (const socket of [phone, laptop]) await socket.live(`user.${user}.transactions`);
    await stage.publish(`user.${user}.transactions`, TRANSACTION);
    for (const socket of [phone, laptop]) await socket.expect({ type: 'transaction_update', data: TRANSACTION });
    await laptop.close();
    await stage.publish(`user.${user}.transactions`, { status: 'failed' });
    await phone.expect({ type: 'transaction_update', data: { status: 'failed' } });
    await phone.quiet();
  },

  'POST /ws/broadcast/notification': broadcast('notification', 'user.USER.notifications', 'notification'),
  'POST /ws/broadcast/transaction': broadcast('transaction', 'user.USER.transactions', 'transaction_update'),
  'POST /ws/broadcast/balance': broadcast('balance', 'user.USER.balance', 'balance_update'),
  'POST /ws/broadcast/market': broadcast('market', 'room.ROOM', 'market_update'),
  'POST /ws/broadcast/announcement': broadcast('announcement', 'system.announcements', 'system_announcement'),

  'POST /ws/broadcast/market without a room': async (stage) => {
    const socket = await page(stage, stage.name('u1'));
    // The last message of another row may arrive first.
    socket.only = stage.tag;
    await join(socket, 'market_data');
    const body = { data: { symbol: stage.name('AAPL') } };
    const token = await stage.token('backend', 'backend');
    await stage.answers(200, { success: true }, 'POST', '/ws/broadcast/market', { token, body });
    await socket.expect({ type: 'market_update', ...body });
  },

  'a broadcast with an API key': async (stage) => {
    const user = stage.name('u1');
    const socket = await page(stage, user);
    await socket.live(`user.${user}.notifications`);
    const body = { user_id: user, data: NOTIFICATION };
    await stage.answers(200, { success: true }, 'POST', '/ws/broadcast/notification', { token: stage.key(), body });
    await socket.expect({ type: 'notification', data: NOTIFICATION });
    // A WebSocket still needs a token.
    await stage.refused(`/ws/notifications?token=${stage.key()}`, 401);
  },

  '/ws/stats': async (stage) => {
    const room = stage.name('market_data');
    for (const user of ['u1', 'u2']) await join(await page(stage, stage.name(user)), room);
    const token = await stage.token('backend', 'backend');
    await eventually(async () => {
      const [status, got] = await stage.http('GET', '/ws/stats', { token });
      const wanted = { total_connections: atLeast(2), unique_users: atLeast(2), rooms: ANY };
      if (status !== 200 || !same(wanted, got) || got.rooms[room] !== 2) {
        throw new Wrong(`GET /ws/stats as backend: ${status} ${short(got)}, not 2 in ${room}`);
      }
    });
    const counts = { total_connections: atLeast(0), unique_users: atLeast(0), rooms: {} };
    await stage.answers(200, counts, 'GET', '/ws/stats', { token: await stage.token(stage.name('u1')) });
    await stage.answers(401, ANY, 'GET', '/ws/stats');
  },

  'delivery statistics': async (stage) => {
    const room = stage.name('market_data');
    const sockets = [await page(stage, stage.name('u1')), await page(stage, stage.name('u2'))];
    for (const socket of sockets) await join(socket, room);
    const token = await stage.token('backend', 'backend');
    const counted = async (least) => {
      const [status, got] = await stage.http('GET', '/ws/stats/delivery', { token });
      if (status !== 200 || !same({ delivered: atLeast(least), dropped: atLeast(0) }, got)) {
        throw new Wrong(`GET /ws/stats/delivery: ${status} ${short(got)}, not ${least} or more delivered`);
      }
      return got.delivered;
    };
    const before = await counted(2);
    for (const price of [1, 2, 3, 4, 5]) {
      const data = { symbol: 'AAPL', price };
      await stage.publish(`room.${room}`, data);
      for (const socket of sockets) await socket.expect({ type: 'market_update', data });
    }
    await eventually(() => counted(before + 10));
    await stage.answers(401, ANY, 'GET', '/ws/stats/delivery');
  },

  '/health': (stage) => stage.answers(200, { status: 'ok' }, 'GET', '/health'),

  '/ws/test': async (stage) => {
    const [status, body] = await stage.http('GET', '/ws/test');
    const isPage = status === 200 && /<html/i.test(body);
    if (stage.hasConsole ? !isPage : status !== 404) {
      throw new Wrong(`GET /ws/test: http.console is ${stage.hasConsole ? 'on' : 'off'}, got ${status} ${short(body)}`);
    }
  },
};
