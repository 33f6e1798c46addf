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

/** Whether the nodes encode users in subjects: they have `auth.user_claim`. */
const encodesUsers = Boolean(process.env.TIDEGATE_AUTH__USER_CLAIM);

/** The user in a subject. Where users are encoded, as `tidegate subject` prints it. */
export function token(userId) {
  const name = String(userId);
  if (!encodesUsers) {
    if (/^[\w=@:-]{1,128}$/.test(name)) return name;
    const reason = 'has only letters, digits and _-=@: unless the nodes have auth.user_claim (TIDEGATE_AUTH__USER_CLAIM)';
    throw new RangeError(`a user ${reason}: ${JSON.stringify(name)}`);
  }
  return [...Buffer.from(name)]
    .map((byte) => String.fromCharCode(byte))
    .map((it) => (/[\w@:-]/.test(it) ? it : `=${it.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`))
    .join('');
}

/**
 * The last token of the subject is the event. A type that is no token, such as `fraud.alert`, is none: pages get such a
 * message as it is.
 */
async function send(prefix, message) {
  const isWord = typeof message.type === 'string' && /^[\w=@:/+^&#~-]{1,128}$/.test(message.type);
  (await connection()).publish(`${prefix}.${isWord ? message.type : 'notifications'}`, JSON.stringify(message));
}

export const notifyUser = async (userId, message) => send(`user.${token(userId)}`, message);
export const broadcastToUser = notifyUser;
export const broadcast = (message) => send('system', message);

/** For code that has sockets by user: `activeWebsockets[userId].send(text)`. */
export const activeWebsockets = new Proxy(
  {},
  { get: (_, userId) => ({ send: (text) => notifyUser(userId, JSON.parse(text)) }) },
);
