// The page of `tidegate dev`: subscribes over one WebSocket and shows what comes. No library, no build step.

const CHANNELS = ["prices.*", "user.demo.notifications"];
const LOG_LINES = 100;
// How long a node may take to greet someone who shows no token: one that wants a token never does.
const GREETING_MS = 1_500;
const NEW_TOKEN =
  "Open the link that `tidegate dev` printed last: it makes a new token at each start. With a node of your own, put a token " +
  "behind #token= in the address of this page.";
const status = document.getElementById("status");
const rows = document.querySelector("#channels tbody");
const log = document.getElementById("log");
const answer = document.getElementById("answer");
const form = document.getElementById("subscribe");
const wanted = new Set(CHANNELS);
const trouble = troubleBox(connect);
let socket;
let timer;
let attempts = 0;
let sent = 0;
let heard = 0;
let silence = 0;

function connect() {
  leave();
  show("connecting", false);
  answer.textContent = "";
  const token = tokenInAddress();
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  // The token is the first message, not a part of the handshake: only so does the page hear why it is refused.
  const mine = new WebSocket(`${scheme}://${location.host}/ws`, ["tidegate.v1.json"]);
  socket = mine;
  let refusal;
  let isGreeted = false;
  mine.onopen = () => {
    if (token) send({ type: "auth", token });
    else timer = setTimeout(() => stop("no token", "This page has no token, and the node wants one.", NEW_TOKEN), GREETING_MS);
  };
  mine.onmessage = (event) => {
    heard = Date.now();
    const message = JSON.parse(event.data);
    isGreeted ||= message.type === "connected";
    if (message.type === "error" && message.code === "unauthorized") {
      refusal = message.message;
      // A session that is open to everybody goes on; this page wants its own.
      return isGreeted ? closed({ code: 4501 }, token, refusal) : undefined;
    }
    receive(message);
  };
  mine.onclose = (event) => closed(event, token, refusal);
}

// Forgets the connection, if there is one. One that is dead takes its time to close, and nobody waits for it.
function leave() {
  clearTimeout(timer);
  if (!socket) return;
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
  socket = undefined;
  silence = 0;
}

async function closed(event, token, refusal) {
  const mine = socket;
  clearTimeout(timer);
  silence = 0;
  if (event.code === 4001 || event.code === 4501) {
    const until = expiry(token);
    const age = until && until < Date.now() ? ` It expired ${distance(until)} ago.` : "";
    const why = refusal ? `The node refuses the token: ${refusal}.` : `${sentence(closeWords(event))}.`;
    return stop(event.code === 4001 || age ? "token expired" : "token refused", why + age, NEW_TOKEN);
  }
  if (event.code === 4504) return stop("no token", "This page has no token, and the node wants one.", NEW_TOKEN);
  if (event.code >= 4500 && event.code < 5000) {
    return stop("closed", `${sentence(closeWords(event))}.`, "Reload the page to try again.");
  }
  const state = await nodeState();
  if (socket !== mine) return;
  const [what, todo] = {
    away: [
      `The node at ${location.host} does not answer.`,
      "Is `tidegate dev` still running? Where it runs on another port now, open the link that it printed last.",
    ],
    unready: [
      `The node at ${location.host} is not ready: it cannot reach NATS, or it is about to end.`,
      "Its log says which. Is nats-server running?",
    ],
    ready: [`${sentence(closeWords(event))}.`, ""],
  }[state];
  const delay = 200 + Math.random() * Math.min(20_000, 500 * 2 ** attempts++);
  show(state === "away" ? "node away" : "connecting", false);
  trouble.show(what, todo, Date.now() + delay, attempts);
  timer = setTimeout(connect, delay);
}

// Ends the attempts: another one would end in the same way.
function stop(words, what, todo) {
  leave();
  show(words, false);
  trouble.show(what, todo);
}

// A network that is gone says nothing, and neither does a node that was stopped.
setInterval(() => {
  if (silence && Date.now() - heard > silence) {
    leave();
    closed({ code: 1006, reason: "" }, "", undefined);
  }
}, 1_000);

// A new link in the same tab changes no more than what is behind the #.
addEventListener("hashchange", () => {
  attempts = 0;
  connect();
});

function sentence(words) {
  return words[0].toUpperCase() + words.slice(1);
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id: ++sent, ...message }));
}

function receive(message) {
  switch (message.type) {
    case "connected":
      // Who has a token is not content with what is open to everybody.
      if (message.user === "anonymous" && tokenInAddress()) break;
      clearTimeout(timer);
      attempts = 0;
      silence = 2 * message.ping_interval_ms + 10_000;
      trouble.hide();
      show("connected", true);
      send({ type: "subscribe", channels: [...wanted] });
      break;
    case "subscribed":
      answer.textContent = `subscribed to ${message.channel}`;
      message.snapshot.forEach(take);
      break;
    case "message":
      take(message);
      if (!(message.subject || message.channel).startsWith("prices.")) write(message);
      break;
    case "ping":
      send({ type: "pong" });
      break;
    case "error":
      if (message.channel) wanted.delete(message.channel);
      answer.textContent = `${message.channel || "error"}: ${message.message}`;
      break;
    case "gap":
      note(`gap on ${message.channel}: ${message.cause}`);
      break;
    case "stale":
      note(`${message.channel} has been silent since ${message.since}`);
      break;
    case "expiring":
      note(`the token expires in ${distance(Date.now() + message.in_ms)}: get a new link from \`tidegate dev\``);
      break;
  }
}

function take(message) {
  const subject = message.subject || message.channel;
  const row = rows.querySelector(`tr[data-channel="${CSS.escape(subject)}"]`) || addRow(subject);
  const [, data, count, time] = row.cells;
  data.textContent = text(message);
  data.title = data.textContent;
  count.textContent = Number(count.textContent) + 1;
  time.textContent = message.time.slice(11, 19);
  row.classList.add("fresh");
  clearTimeout(row.fading);
  row.fading = setTimeout(() => row.classList.remove("fresh"), 300);
}

function addRow(subject) {
  const row = document.createElement("tr");
  row.dataset.channel = subject;
  for (const [role, content] of [["subject", subject], ["data", ""], ["count", "0"], ["time", ""]]) {
    const cell = row.insertCell();
    cell.dataset.role = role;
    cell.textContent = content;
  }
  const after = [...rows.rows].find((other) => other.dataset.channel > subject);
  rows.insertBefore(row, after || null);
  return row;
}

function write(message) {
  const line = document.createElement("li");
  const code = document.createElement("code");
  code.textContent = text(message);
  line.append(`${message.time.slice(11, 19)} ${message.subject || message.channel} `, code);
  prepend(line);
}

function note(words) {
  const line = document.createElement("li");
  line.className = "note";
  line.textContent = words;
  prepend(line);
}

function prepend(line) {
  log.prepend(line);
  while (log.children.length > LOG_LINES) log.lastChild.remove();
}

function text(message) {
  return "data" in message ? JSON.stringify(message.data) : `base64: ${message.data_base64}`;
}

function show(words, connected) {
  status.textContent = words;
  status.className = connected ? "connected" : "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const channel = form.elements.channel.value.trim();
  wanted.add(channel);
  if (socket?.readyState === WebSocket.OPEN) send({ type: "subscribe", channel });
  else answer.textContent = `not connected: ${channel} is subscribed to later`;
  form.reset();
});

connect();
