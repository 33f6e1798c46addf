// FinanceGPT Pro's functions in JavaScript: they publish on NATS. Tidegate has the sockets.

import { connect } from '@nats-io/transport-node';

const servers = process.env.NATS_URL ?? 'nats://127.0.0.1:4222';
let connected;

/** The connection to NATS. The first call opens it; then it reconnects without end. */
export function connection() {
  connected ??= connect({ servers, name: 'backend', maxReconnectAttempts: -1 }).catch((error) => {
    connected = undefined;
    throw error;
  });
  return connected;
}

/** The user in a subject, as `tidegate subject` prints it. */
export const token = (userId) =>
  [...Buffer.from(String(userId))]
    .map((byte) => String.fromCharCode(byte))
    .map((it) => (/[\w@:-]/.test(it) ? it : `=${it.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`))
    .join('');

/** The last token of the subject is the event. */
async function send(prefix, message) {
  (await connection()).publish(`${prefix}.${message.type ?? 'notifications'}`, JSON.stringify(message));
}

export const notifyUser = (userId, message) => send(`user.${token(userId)}`, message);
export const broadcastToUser = notifyUser;
export const broadcast = (message) => send('system', message);

/** For code that has sockets by user: `activeWebsockets[userId].send(text)`. */
export const activeWebsockets = new Proxy(
  {},
  { get: (_, userId) => ({ send: (text) => notifyUser(userId, JSON.parse(text)) }) },
);
