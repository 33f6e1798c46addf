// What all pages stand on: a WebSocket that expects, and a stage that reaches NATS and HTTP through the runner.

// What comes at all comes in this time.
const LIMIT_MS = 10_000;
// A publication that should come to nobody has come by then, when one after it has.
const QUIET_MS = 150;
// From one try to the next, while a subscription is not live yet.
const AGAIN_MS = 50;
// So many nodes stand behind a balancer at most: it takes them in turn.
const NODES = 3;

const PROBE = /"(probe-\d+)"/;
let probes = 0;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Wrong extends Error {}
/** A row that the node is not configured for. */
export class Skipped extends Error {}

/** Any text of a form; a whole number that is not smaller; whatever there is. */
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

/** Equal to the last member. */
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

/** One WebSocket of a page. What comes is compared to the last member; nothing is skipped but probes. */
export class Socket {
  /** Only what contains this text counts: where a page asks for everybody's messages. */
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

  /** Waits until something comes, the socket is closed, or the time is over. */
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
      if (left <= 0) throw new Wrong(`expected ${short(wanted)}, but nothing came`);
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

  /** Publishes until something of it comes: the subscription is there. Nothing of this is ever expected. */
  async live(subject, members = {}) {
    const mine = [];
    const deadline = performance.now() + LIMIT_MS;
    while (!mine.some((probe) => this.#probes.has(probe))) {
      if (this.code) throw new Wrong(`the socket was closed with ${this.code}`);
      if (performance.now() > deadline) throw new Wrong(`nothing that is published on ${subject} comes`);
      const probe = `probe-${(probes += 1)}`;
      mine.push(probe);
      const woken = this.#wake(AGAIN_MS);
      await this.stage.publish(subject, { symbol: probe, ...members });
      await woken;
    }
  }

  /** Nothing is left, and nothing comes. */
  async quiet() {
    await sleep(QUIET_MS);
    if (this.#frames.length) throw new Wrong(`came, and should not: ${short(this.#frames[0])}`);
  }

  async isClosedWith(code) {
    const got = await Promise.race([this.closed, sleep(LIMIT_MS)]);
    if (got !== code) throw new Wrong(`expected to be closed with ${code}, was ${got ?? 'not closed'}`);
  }

  close() {
    this.ws.close();
    return Promise.race([this.closed, sleep(1000)]);
  }
}

/** Where a page is tried out. `ask(what, …)` is done by the runner, outside the browser. */
export class Stage {
  #sockets = [];

  constructor({ url, tag, console: hasConsole, apiKey }, ask) {
    Object.assign(this, { url, tag, hasConsole, apiKey, ask });
  }

  /** What the node knows as an API key of its own. */
  key() {
    if (!this.apiKey) throw new Skipped('there is no --api-key');
    return this.apiKey;
  }

  /** The same in this row, another one in the next. */
  name(name) {
    return `${name}-${this.tag}`;
  }

  token(sub, role = 'user', claims = {}) {
    return this.ask('token', { sub, role, ...claims });
  }

  /** Done when the server has it. */
  publish(subject, payload) {
    return this.ask('publish', subject, payload);
  }

  /** Answers requests with `reply`, or fails with a text, while `during` runs; resolves to what was asked. */
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

/** Checks until it holds so often in a row that every node behind a balancer has been asked. */
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

/** Runs one row of a page's table; resolves to `{ wrong }`, `{ skipped }` or `{}`. */
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
