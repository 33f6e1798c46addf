// A minimal NATS client that publishes. It shares no code with Tidegate.

import net from 'node:net';

/** Connects and resolves to `{ publish, close }`; every call resolves when the server has confirmed it. */
export async function connect(url, timeoutMs) {
  const { hostname, port, username, password } = new URL(url);
  const socket = net.connect({ host: hostname, port: Number(port || 4222) });
  const waiting = [];
  let unread = '';
  let broken = null;

  const fail = (error) => {
    broken ??= error;
    for (const { reject } of waiting.splice(0)) reject(broken);
    socket.destroy();
  };
  const confirmed = () =>
    new Promise((resolve, reject) => {
      if (broken) return reject(broken);
      waiting.push({ resolve, reject });
    });

  socket.setTimeout(timeoutMs, () => {
    if (waiting.length) fail(new Error(`NATS at ${url} did not answer in ${timeoutMs} ms`));
  });
  socket.on('error', (error) => fail(new Error(`NATS at ${url}: ${error.message}`)));
  socket.on('close', () => fail(new Error(`NATS at ${url} closed the connection`)));
  socket.on('data', (bytes) => {
    const lines = (unread + bytes.toString()).split('\r\n');
    unread = lines.pop();
    for (const line of lines) {
      if (line.startsWith('INFO ')) {
        const login = username ? { user: decodeURIComponent(username), pass: decodeURIComponent(password) } : {};
        const name = 'tidegate-browser-test';
        const options = { verbose: false, pedantic: true, lang: 'node', version: '0', name, ...login };
        // The first PONG resolves the promise of the connection.
        socket.write(`CONNECT ${JSON.stringify(options)}\r\nPING\r\n`);
      } else if (line === 'PING') socket.write('PONG\r\n');
      else if (line === 'PONG') waiting.shift()?.resolve();
      else if (line.startsWith('-ERR')) fail(new Error(`NATS at ${url}: ${line}`));
    }
  });

  await confirmed();
  return {
    publish(subject, payload) {
      const text = JSON.stringify(payload);
      socket.write(`PUB ${subject} ${Buffer.byteLength(text)}\r\n${text}\r\nPING\r\n`);
      return confirmed();
    },
    close: () => socket.destroy(),
  };
}
