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

/** A token of the public server has a type, and no role, or a role of that server. */
const token = (stage, user, role = 'user') =>
  stage.token(user, 'user', { role: role ?? undefined, token_type: 'access' });
const backend = (stage) => token(stage, 'backend', 'backend');
const update = (type, data) => ({ type, data, timestamp: MILLISECONDS });

/** A page that has received the greeting. */
async function page(stage, user, role = 'user') {
  const socket = await stage.socket(`/ws/notifications?token=${await token(stage, user, role)}`);
  await socket.expect({
    type: 'connection_established',
    message: 'Connected to real-time notifications',
    user_id: user,
    timestamp: MILLISECONDS,
  });
  return socket;
}

async function join(socket, room) {
  await socket.ask({ type: 'join_room', room }, { type: 'room_joined', room, timestamp: MILLISECONDS });
  await socket.live(`room.${room}`);
}

const leave = (socket, room) =>
  socket.ask({ type: 'leave_room', room }, { type: 'room_left', room, timestamp: MILLISECONDS });

const pushed = (type, subject, data) => async (stage) => {
  const [user, other] = [stage.name('u1'), stage.name('u2')];
  const socket = await page(stage, user);
  await socket.live(subject.replace('USER', user));
  if (subject.includes('USER')) await stage.publish(subject.replace('USER', other), { not: 'yours' });
  const mine = { ...data, tag: stage.tag };
  await stage.publish(subject.replace('USER', user), mine);
  await socket.expect(update(type, mine));
  await socket.quiet();
};

/** A POST of the public backend: the body is the data, and the query says for whom. */
const broadcast = (what, query, subject, type, answer) => async (stage) => {
  const [user, room] = [stage.name('u1'), stage.name('crypto')];
  const named = (text) => text.replace('USER', user).replace('ROOM', room);
  const path = `/ws/broadcast/${what}${named(query)}`;
  const data = { what, tag: stage.tag };
  const wanted = { success: true, ...Object.fromEntries(Object.entries(answer).map(([key, it]) => [key, named(it)])) };
  const socket = await page(stage, user);
  // Other rows publish for all users too.
  socket.only = stage.tag;
  if (subject.includes('ROOM')) await join(socket, room);
  await socket.live(named(subject));
  await stage.answers(200, wanted, 'POST', path, { token: await backend(stage), body: data });
  await socket.expect(update(type, data));
  await stage.answers(403, ANY, 'POST', path, { token: await token(stage, user), body: data });
  await stage.answers(401, ANY, 'POST', path, { body: data });
  await stage.answers(400, ANY, 'POST', path, { token: await backend(stage) });
  if (query.includes('USER'))
    await stage.answers(400, ANY, 'POST', path.replace(user, '*'), { token: await backend(stage), body: data });
  await socket.quiet();
};

const DONE = 'broadcasted successfully';

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

  'a token without a role': async (stage) => {
    const user = stage.name('u1');
    const socket = await page(stage, user, null);
    await socket.live(`user.${user}.notifications`);
  },

  join_room: async (stage) => {
    const [crypto, forex, stocks] = ['crypto', 'forex', 'stocks'].map((it) => stage.name(it));
    const socket = await page(stage, stage.name('u1'));
    for (const room of [crypto, forex, forex]) await join(socket, room);
    await stage.publish(`room.${stocks}`, { symbol: 'AAPL' });
    for (const [room, data] of [
      [crypto, { symbol: 'BTC', price: 1 }],
      [forex, { pair: 'EURUSD' }],
    ]) {
      await stage.publish(`room.${room}`, data);
      await socket.expect(update('market_update', data));
    }
    await socket.quiet();
  },

  'messages in a room': async (stage) => {
    const [family, other] = [stage.name('family_42'), stage.name('family_43')];
    const socket = await page(stage, stage.name('u1'));
    await join(socket, family);
    await stage.publish(`room.${other}.chat`, { text: 'elsewhere' });
    await socket.live(`room.${family}.chat`);
    await stage.publish(`room.${family}.chat`, { from: 'u2', text: 'hi' });
    await socket.expect(update('chat', { from: 'u2', text: 'hi' }));
    await socket.quiet();
  },

  'a room with a dot': async (stage) => {
    const brk = stage.name('BRK');
    const socket = await page(stage, stage.name('u1'));
    const other = await page(stage, stage.name('u2'));
    await join(socket, brk);
    // A room is one token, so there is no room with a dot whose messages the room before the dot could get.
    await other.ask({ type: 'join_room', room: `${brk}.B` }, { type: 'error', message: ANY_TEXT });
    await stage.publish(`room.${brk}`, { symbol: 'BRK.A', price: 1 });
    await socket.expect(update('market_update', { symbol: 'BRK.A', price: 1 }));
    await socket.quiet();
    await other.quiet();
  },

  'prices are in the room market_data': async (stage) => {
    const [aapl, brk] = [stage.name('AAPL'), `${stage.name('BRK')}.B`];
    const socket = await page(stage, stage.name('u1'));
    // The last prices of other rows may arrive first.
    socket.only = stage.tag;
    socket.send({ type: 'join_room', room: 'market_data' });
    for (const [prefix, symbol] of [
      ['prices', aapl],
      ['prices', brk],
      ['market', aapl],
    ]) {
      await socket.live(`${prefix}.${symbol}`);
      await stage.publish(`${prefix}.${symbol}`, { price: 190.1 });
      await socket.expect(update('market_update', { symbol, price: 190.1 }));
    }
  },

  leave_room: async (stage) => {
    const [crypto, forex] = [stage.name('crypto'), stage.name('forex')];
    const socket = await page(stage, stage.name('u1'));
    for (const room of [crypto, forex]) await join(socket, room);
    await leave(socket, crypto);
    await leave(socket, stage.name('nowhere'));
    await stage.publish(`room.${crypto}`, { symbol: 'BTC' });
    await stage.publish(`room.${forex}`, { pair: 'EURUSD' });
    await socket.expect(update('market_update', { pair: 'EURUSD' }));
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
      await socket.ask(
        { type: 'subscribe_notifications', types },
        { type: 'subscription_updated', subscriptions: types, timestamp: MILLISECONDS },
      );
      await stage.publish(`user.${user}.notifications`, { id: 'n2', type: unwanted });
      await stage.publish(`user.${user}.notifications`, { id: 'n3' });
      await stage.publish(`user.${user}.notifications`, { id: 'n4', type: wanted });
      await socket.expect(update('notification', { id: 'n4', type: wanted }));
      await socket.quiet();
    }
    await stage.publish(`user.${user}.balance`, { balance: 1 });
    await socket.expect(update('balance_update', { balance: 1 }));
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
    await socket.expect(update('market_update', { symbol: 'AAPL', price: 190.1 }));
  },

  error: async (stage) => {
    const socket = await page(stage, stage.name('u1'));
    await socket.ask({ type: 'dance' }, { type: 'error', message: 'Unknown message type: dance' });
    await socket.ask({ type: 'join_room', room: 'a b' }, { type: 'error', message: ANY_TEXT });
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
    for (const socket of [phone, laptop]) await socket.expect(update('transaction_update', TRANSACTION));
    await laptop.close();
    await stage.publish(`user.${user}.transactions`, { status: 'failed' });
    await phone.expect(update('transaction_update', { status: 'failed' }));
    await phone.quiet();
  },

  'POST /ws/broadcast/notification?user_id=': broadcast(
    'notification',
    '?user_id=USER',
    'user.USER.notifications',
    'notification',
    { message: `Notification ${DONE}`, target: 'user USER' },
  ),
  'POST /ws/broadcast/notification': broadcast('notification', '', 'system.notifications', 'notification', {
    message: `Notification ${DONE}`,
    target: 'all users',
  }),
  'POST /ws/broadcast/transaction': broadcast(
    'transaction',
    '?user_id=USER',
    'user.USER.transactions',
    'transaction_update',
    { message: `Transaction update ${DONE}`, user_id: 'USER' },
  ),
  'POST /ws/broadcast/balance': broadcast('balance', '?user_id=USER', 'user.USER.balance', 'balance_update', {
    message: `Balance update ${DONE}`,
    user_id: 'USER',
  }),
  'POST /ws/broadcast/market': broadcast('market', '?room=ROOM', 'room.ROOM', 'market_update', {
    message: `Market update ${DONE}`,
    room: 'ROOM',
  }),
  'POST /ws/broadcast/announcement': broadcast('announcement', '', 'system.announcements', 'system_announcement', {
    message: `System announcement ${DONE}`,
  }),

  'POST /ws/broadcast/market without a room': async (stage) => {
    const socket = await page(stage, stage.name('u1'));
    // The last message of another row may arrive first.
    socket.only = stage.tag;
    socket.send({ type: 'join_room', room: 'market_data' });
    await socket.live('room.market_data');
    const body = { symbol: stage.name('AAPL') };
    const wanted = { success: true, message: `Market update ${DONE}`, room: 'market_data' };
    await stage.answers(200, wanted, 'POST', '/ws/broadcast/market', { token: await backend(stage), body });
    await socket.expect(update('market_update', body));
  },

  'a broadcast with an API key': async (stage) => {
    const user = stage.name('u1');
    const socket = await page(stage, user);
    await socket.live(`user.${user}.notifications`);
    const path = `/ws/broadcast/notification?user_id=${user}`;
    await stage.answers(200, ANY, 'POST', path, { token: stage.key(), body: NOTIFICATION });
    await socket.expect(update('notification', NOTIFICATION));
    // A WebSocket still needs a token.
    await stage.refused(`/ws/notifications?token=${stage.key()}`, 401);
  },

  '/ws/stats': async (stage) => {
    const room = stage.name('market_data');
    for (const user of ['u1', 'u2']) await join(await page(stage, stage.name(user)), room);
    await eventually(async () => {
      const [status, got] = await stage.http('GET', '/ws/stats', { token: await backend(stage) });
      const data = { total_connections: atLeast(2), unique_users: atLeast(2), rooms: ANY, timestamp: MILLISECONDS };
      if (status !== 200 || !same({ success: true, data }, got) || got.data.rooms[room] !== 2) {
        throw new Wrong(`GET /ws/stats as backend: ${status} ${short(got)}, not 2 in ${room}`);
      }
    });
    const counts = { total_connections: atLeast(0), unique_users: atLeast(0), rooms: {}, timestamp: MILLISECONDS };
    const mine = { token: await token(stage, stage.name('u1')) };
    await stage.answers(200, { success: true, data: counts }, 'GET', '/ws/stats', mine);
    await stage.answers(401, ANY, 'GET', '/ws/stats');
  },

  'delivery statistics': async (stage) => {
    const room = stage.name('market_data');
    const sockets = [await page(stage, stage.name('u1')), await page(stage, stage.name('u2'))];
    for (const socket of sockets) await join(socket, room);
    const counted = async (least) => {
      const [status, got] = await stage.http('GET', '/ws/stats/delivery', { token: await backend(stage) });
      const data = { delivered: atLeast(least), dropped: atLeast(0), timestamp: MILLISECONDS };
      if (status !== 200 || !same({ success: true, data }, got)) {
        throw new Wrong(`GET /ws/stats/delivery: ${status} ${short(got)}, not ${least} or more delivered`);
      }
      return got.data.delivered;
    };
    const before = await counted(2);
    for (const price of [1, 2, 3, 4, 5]) {
      const data = { symbol: 'AAPL', price };
      await stage.publish(`room.${room}`, data);
      for (const socket of sockets) await socket.expect(update('market_update', data));
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
