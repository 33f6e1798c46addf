// A `tidegate dev` of its own for a check: started, stopped, started again.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';

/** Starts one on a port (0: any) and resolves to `{ page, address, stop }` once its banner is there. */
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
