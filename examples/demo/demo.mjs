// The demo page: opens the sockets of one system as its own frontend does, shows everything it receives, and has a
// button for each message that the frontend sends. The page's address has its parameters:
// #seed=…&node=HOST:PORT&token=…

import { SEEDS } from './seeds.mjs';
import { showSnippets } from './snippets.mjs';

const LOG_LINES = 100;
const settings = new URLSearchParams(location.hash.slice(1));
const seed = SEEDS[settings.get('seed')];

/** Replaces `{token}` and other names in braces with the parameters of this page's address. */
const filled = (text) => text.replace(/\{(\w+)\}/g, (whole, name) => settings.get(name) ?? whole);

function element(name, text = '', more = {}) {
  return Object.assign(document.createElement(name), { textContent: text }, more);
}

/** The type and symbol of a message. The table has a row for each. */
function nameOf(message) {
  const answer = 'jsonrpc' in message ? `answer ${message.id}` : undefined;
  const kind = message.type ?? message.method ?? answer ?? Object.keys(message)[0];
  const data = Array.isArray(message.data) ? message.data[0] : message.data;
  const about = message.symbol ?? message.stock ?? data?.symbol;
  return about ? `${kind} ${about}` : kind;
}

/** One socket of the system's frontend. */
class SocketCard {
  #attempts = 0;
  #rows = new Map();

  constructor(plan) {
    this.plan = plan;
    this.card = element('section', '', { className: 'card' });
    this.card.dataset.socket = plan.name;
    this.status = element('span', 'connecting', { className: 'status' });
    const title = element('h2', `${plan.path} `);
    title.append(this.status);
    this.table = element('table');
    this.log = element('ul', '', { className: 'log' });
    this.card.append(title, this.#buttons(), this.#form(), this.table, this.log);
  }

  #buttons() {
    const all = element('div');
    for (const { label, send, shows, ends } of this.plan.buttons) {
      const button = element('button', label, { title: JSON.stringify(send) });
      if (shows) button.append(element('small', ` → ${shows}`));
      if (ends) button.append(element('small', ` → no ${ends}`));
      button.dataset.label = label;
      button.addEventListener('click', () => this.send(send));
      all.append(button);
    }
    return all;
  }

  #form() {
    const form = element('form');
    const input = element('input', '', { name: 'message', value: '{"type":"?"}', ariaLabel: 'any message' });
    form.append(input, element('button', 'Send'));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#sendText(input.value);
    });
    return form;
  }

  open() {
    const host = settings.get(this.plan.at ?? 'node');
    this.socket = new WebSocket(`ws://${host}${filled(this.plan.path)}`, this.plan.subprotocols ?? []);
    this.socket.onopen = () => {
      this.#attempts = 0;
      this.#setStatus('open');
      for (const message of this.plan.first ?? []) this.send(message);
    };
    this.socket.onmessage = ({ data }) => this.#receive(data);
    this.socket.onclose = ({ code, reason }) => this.#closed(code, reason);
  }

  #closed(code, reason) {
    this.#setStatus(`closed: ${code} ${reason}`);
    // Close codes from 4500 mean that reconnecting without a change would fail.
    const seconds = code >= 4500 ? undefined : seed.reconnect(this.#attempts++);
    if (seconds === undefined) return this.#write('note', 'will not reconnect: reload the page');
    this.#write('note', `reconnecting in ${seconds} s`);
    setTimeout(() => this.open(), seconds * 1000);
  }

  send(message) {
    this.#sendText(JSON.stringify(message));
  }

  #sendText(text) {
    if (this.socket.readyState !== WebSocket.OPEN) return this.#write('note', `not connected, not sent: ${text}`);
    this.socket.send(filled(text));
    // Logs `{token}` instead of the token itself.
    this.#write('sent', `> ${text}`);
  }

  #receive(text) {
    this.#write('received', `< ${text}`);
    const message = JSON.parse(text);
    const answer = (this.plan.answers ?? seed.answers)?.[message.type];
    if (answer) this.send(answer);
    const row = this.#row(nameOf(message));
    row.cells[1].textContent = Number(row.cells[1].textContent) + 1;
    row.cells[2].textContent = text;
    row.cells[2].title = text;
  }

  #row(name) {
    let row = this.#rows.get(name);
    if (!row) {
      row = this.table.insertRow();
      row.dataset.name = name;
      for (const text of [name, '0', '']) row.insertCell().textContent = text;
      this.#rows.set(name, row);
    }
    return row;
  }

  #write(kind, text) {
    this.log.prepend(element('li', text, { className: kind }));
    while (this.log.children.length > LOG_LINES) this.log.lastChild.remove();
  }

  #setStatus(text) {
    this.status.textContent = text;
    this.status.classList.toggle('open', text === 'open');
  }
}

/** HTTP calls. They go to another origin, which needs only the token of this page. */
function showCalls(calls) {
  const section = document.getElementById('calls');
  section.hidden = !calls.length;
  for (const { method, path, as, body } of calls) {
    const card = element('div', '', { className: 'card' });
    const button = element('button', `${method} ${path}`, { title: body ? JSON.stringify(body) : '' });
    const answer = element('output');
    card.dataset.call = `${method} ${path}`;
    button.addEventListener('click', async () => {
      answer.textContent = '…';
      const headers = as ? { authorization: `Bearer ${settings.get(as)}` } : {};
      if (body) headers['content-type'] = 'application/json';
      const url = `http://${settings.get('node')}${path}`;
      try {
        const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
        answer.textContent = `${response.status} ${await response.text()}`;
      } catch (error) {
        answer.textContent = error.message;
      }
    });
    card.append(button, element('code'));
    card.lastChild.append(answer);
    section.append(card);
  }
}

function begin() {
  const about = document.getElementById('about');
  if (!seed) {
    about.textContent = `Open the address that make demo SEED=… prints. SEED is one of: ${Object.keys(SEEDS).join(', ')}`;
    return;
  }
  document.title = `${seed.title} on Tidegate`;
  document.querySelector('h1').textContent = document.title;
  about.textContent = seed.about;
  const lines = seed.sockets.map((plan) => new SocketCard(plan));
  document.getElementById('sockets').append(...lines.map((line) => line.card));
  for (const line of lines) line.open();
  if (seed.ping) setInterval(() => lines.forEach((line) => line.send(seed.ping)), 30_000);
  showCalls(seed.calls ?? []);
  if (settings.has('document')) showSnippets(settings, seed.snippets);
}

begin();
