// Starts and stops a `tidegate dev` for a check.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';

/** Starts it on a port (0: any free port) and resolves to `{ page, address, stop }` after its banner. */
export async function startDev(program, { port = 0, env = {} } = {}) {
  const child = spawn(program, ['dev'], {
    cwd: tmpdir(),
    env: { ...process.env, TIDEGATE_HTTP__LISTEN: `127.0.0.1:${port}`, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let page;
  for await (const line of createInterface({ input: child.stdout })) {
    const [word, url] = line.trim().split(/\s+/);
    if (word === 'page') page = url;
    if (word === 'Ctrl-C') break;
  }
  if (!page) throw new Error('tidegate dev ended before it had printed its page');
  child.stdout.resume();
  return {
    page,
    address: new URL(page).host,
    stop() {
      child.kill('SIGINT');
      return ended;
    },
  };
}
