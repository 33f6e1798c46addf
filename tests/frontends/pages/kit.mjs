// Shared by all pages: a WebSocket that compares messages, and a stage that uses NATS and HTTP through the runner.

// How long to wait for an expected message.
const LIMIT_MS = 10_000;
// How much longer to wait for an unwanted message after a later message has arrived.
const QUIET_MS = 150;
// The interval between two attempts.
const AGAIN_MS = 50;
// The maximum number of nodes behind a load balancer, which uses them in turn.
const NODES = 3;

const PROBE = /"(probe-\d+)"/;
let probes = 0;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Wrong extends Error {}
/** A row that the node is not configured for. */
export class Skipped extends Error {}

/** Wildcards for expected values: any text that matches, any integer of at least this size, and any value. */
export const text = (form) => ({
  matches: (value) => typeof value === 'string' && form.test(value),
  toJSON: () => `${form}`,
});
export const atLeast = (least) => ({
  matches: (value) => Number.isInteger(value) && value >= least,
  toJSON: () => `≥${least}`,
});
export const ANY = { matches: () => true, toJSON: () => '…' };
export const ANY_TEXT = text(/./);
export const SECONDS = text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
export const MILLISECONDS = text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
export const NAIVE = text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/);

/** Whether a value equals the expected one, in all members. */
export function same(wanted, value) {
  if (wanted?.matches) return wanted.matches(value);
  if (wanted === null || typeof wanted !== 'object') return Object.is(wanted, value);
  if (value === null || typeof value !== 'object' || Array.isArray(wanted) !== Array.isArray(value)) return false;
  const names = Object.keys(wanted);
  return (
    names.length === Object.keys(value).length &&
    names.every((name) => name in value && same(wanted[name], value[name]))
  );
}

export function short(value) {
  const written = typeof value === 'string' ? value : JSON.stringify(value);
  return written?.length > 300 ? `${written.slice(0, 300)}…` : String(written);
}

/** One WebSocket of a page. Every message is compared in all members; only probes are skipped. */
export class Socket {
  /** If set, messages without this text are ignored, because the page also receives messages of other rows. */
  only = '';
  #frames = [];
  #probes = new Set();
  #woken = () => {};

  constructor(stage, url, protocols = []) {
    this.stage = stage;
    this.ws = new WebSocket(url, protocols);
    this.opened = new Promise((resolve, reject) => {
      this.ws.onopen = resolve;
      this.ws.onerror = () => reject(new Wrong('the socket did not open'));
    });
    this.closed = new Promise((resolve) => {
      this.ws.onclose = ({ code }) => {
        this.code = code;
        this.#woken();
        resolve(code);
      };
    });
    this.ws.onmessage = ({ data }) => {
      const probe = PROBE.exec(data)?.[1];
      if (probe) this.#probes.add(probe);
      else if (data.includes(this.only)) this.#frames.push(data);
      this.#woken();
    };
  }

  /** Waits until a message arrives, the socket closes, or the time is over. */
  #wake(ms) {
    return Promise.race([new Promise((resolve) => (this.#woken = resolve)), sleep(ms)]);
  }

  send(message) {
    this.ws.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  async expect(wanted, withinMs = LIMIT_MS) {
    const deadline = performance.now() + withinMs;
    while (!this.#frames.length) {
      if (this.code) throw new Wrong(`expected ${short(wanted)}, but the socket was closed with ${this.code}`);
      const left = deadline - performance.now();
      if (left <= 0) throw new Wrong(`expected ${short(wanted)}, but no message arrived`);
      await this.#wake(left);
    }
    const frame = this.#frames.shift();
    if (!same(wanted, JSON.parse(frame))) throw new Wrong(`expected ${short(wanted)}, got ${short(frame)}`);
  }

  async ask(message, wanted) {
    this.send(message);
    try {
      await this.expect(wanted);
    } catch (error) {
      throw new Wrong(`sent ${short(message)}, ${error.message}`);
    }
  }

  /** Publishes probes until one arrives, so that the subscription is live. `expect` ignores probes. Not for `signals`: a
      node of Sentio keeps the probe, so its pages would get it in each list, which they ignore. */
  async live(subject, members = {}) {
    if (/^signals(\.|$)/.test(subject) && !members.symbol)
      throw new Error(`a probe on ${subject} would hide the lists of Sentio's pages`);
    const mine = [];
    const deadline = performance.now() + LIMIT_MS;
    while (!mine.some((probe) => this.#probes.has(probe))) {
      if (this.code) throw new Wrong(`the socket was closed with ${this.code}`);
      if (performance.now() > deadline) throw new Wrong(`no message published on ${subject} arrives`);
      const probe = `probe-${(probes += 1)}`;
      mine.push(probe);
      const woken = this.#wake(AGAIN_MS);
      await this.stage.publish(subject, { symbol: probe, ...members, probe });
      await woken;
    }
  }

  /** Repeats the publications until this message arrives, then waits until no more come. Other messages are ignored. */
  async until(publish, wanted) {
    const deadline = performance.now() + LIMIT_MS;
    let last = 'no message arrived';
    for (;;) {
      const woken = this.#wake(AGAIN_MS);
      await publish();
      await woken;
      const frames = this.#frames.splice(0);
      last = frames.at(-1) ?? last;
      if (frames.some((frame) => same(wanted, JSON.parse(frame)))) break;
      if (this.code) throw new Wrong(`expected ${short(wanted)}, but the socket was closed with ${this.code}`);
      if (performance.now() > deadline) throw new Wrong(`expected ${short(wanted)}; the last message: ${short(last)}`);
    }
    do {
      this.#frames = [];
      await sleep(QUIET_MS);
    } while (this.#frames.length);
  }

  /** Checks that no message is left, and that none arrives. */
  async quiet() {
    await sleep(QUIET_MS);
    if (this.#frames.length) throw new Wrong(`got an unexpected message: ${short(this.#frames[0])}`);
  }

  async isClosedWith(code) {
    const got = await Promise.race([this.closed, sleep(LIMIT_MS)]);
    if (got !== code) throw new Wrong(`expected close code ${code}, got ${got ?? 'no close'}`);
  }

  close() {
    this.ws.close();
    return Promise.race([this.closed, sleep(1000)]);
  }
}

/** The environment of one row. The runner executes `ask(what, …)` outside the browser. */
export class Stage {
  #sockets = [];

  constructor({ url, tag, console: hasConsole, apiKey }, ask) {
    Object.assign(this, { url, tag, hasConsole, apiKey, ask });
  }

  /** The API key that the node accepts. */
  key() {
    if (!this.apiKey) throw new Skipped('needs --api-key');
    return this.apiKey;
  }

  /** A name that is unique to this row. */
  name(name) {
    return `${name}-${this.tag}`;
  }

  token(sub, role = 'user', claims = {}) {
    return this.ask('token', { sub, role, ...claims });
  }

  /** Resolves once NATS has the message. */
  publish(subject, payload) {
    return this.ask('publish', subject, payload);
  }

  /** Runs a service while `during` runs: it replies with `reply`, or fails with a text. Resolves to its requests. */
  async service(subject, answer, during) {
    const id = await this.ask('serve', subject, answer);
    try {
      await during();
    } finally {
      this.asked = await this.ask('served', id);
    }
    return this.asked;
  }

  async socket(path, protocols) {
    const socket = new Socket(this, this.url + path, protocols);
    this.#sockets.push(socket);
    await socket.opened;
    return socket;
  }

  /** The handshake is answered with this status; a page sees no more than that the socket does not open. */
  async refused(path, status) {
    const got = await this.ask('handshake', path);
    if (got !== status) throw new Wrong(`${path.split('?')[0]}: expected ${status}, got ${got}`);
    const socket = new Socket(this, this.url + path);
    const opens = await socket.opened.then(
      () => true,
      () => false,
    );
    await socket.close();
    if (opens) throw new Wrong(`${path.split('?')[0]}: a socket opens in the page`);
  }

  http(method, path, { token, body } = {}) {
    return this.ask('http', method, path, token, body);
  }

  async answers(status, wanted, method, path, options) {
    const [gotStatus, got] = await this.http(method, path, options);
    if (gotStatus !== status || !same(wanted, got)) {
      throw new Wrong(`${method} ${path}: expected ${status} ${short(wanted)}, got ${gotStatus} ${short(got)}`);
    }
  }

  close() {
    return Promise.all(this.#sockets.map((socket) => socket.close()));
  }
}

/** Repeats the check until it succeeds `NODES` times in a row, and so on every node behind a load balancer. */
export async function eventually(check) {
  const deadline = performance.now() + LIMIT_MS;
  let inARow = 0;
  while (inARow < NODES) {
    try {
      await check();
      inARow += 1;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      inARow = 0;
      await sleep(AGAIN_MS);
    }
  }
}

/** Runs one row of a page. Resolves to `{ wrong }`, `{ skipped }` or `{}`. */
export async function run(row, options, ask) {
  const stage = new Stage(options, ask);
  try {
    await row(stage);
    return {};
  } catch (error) {
    if (error instanceof Skipped) return { skipped: error.message };
    return { wrong: error instanceof Wrong ? error.message : `${error.name}: ${error.message}` };
  } finally {
    await stage.close();
  }
}
