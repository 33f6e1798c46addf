// The page of `tidegate dev`: subscribes over one WebSocket and shows the messages. No library, no build step.

// The user of `tidegate dev` that may see what is for administrators.
const ADMIN = "admin";
const LOG_LINES = 100;
// How long to wait for `connected` without a token. A node that needs a token never sends it.
const CONNECTED_MS = 1_500;
const NEW_TOKEN =
  "Open the link that `tidegate dev` printed last: it makes a new token at each start. With your own node, add #token= and " +
  "a token to the address of this page.";
const socketPath = document.querySelector("meta[name=socket]").content;
const status = document.getElementById("status");
const rows = document.querySelector("#channels tbody");
const log = document.getElementById("log");
const answer = document.getElementById("answer");
const form = document.getElementById("subscribe");
const users = document.querySelector("#user select");
// Those that the form adds to the ones of each user.
const added = new Set();
const errors = errorBox(connect);
let socket;
let timer;
let attempts = 0;
let sent = 0;
let lastMessageAt = 0;
// The time without messages after which the connection is dead; 0 while it is not open.
let maxSilence = 0;

function connect() {
  disconnect();
  show("connecting", false);
  answer.textContent = "";
  const token = chosenToken();
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  // The token is sent as the first message, because a script cannot read why a handshake is rejected.
  const mine = new WebSocket(`${scheme}://${location.host}${socketPath}`, ["tidegate.v1.json"]);
  socket = mine;
  let refusal;
  let isConnected = false;
  mine.onopen = () => {
    if (token) send({ type: "auth", token });
    else timer = setTimeout(() => stop("no token", "This page has no token, and the node needs one.", NEW_TOKEN), CONNECTED_MS);
  };
  mine.onmessage = (event) => {
    lastMessageAt = Date.now();
    const message = JSON.parse(event.data);
    isConnected ||= message.type === "connected";
    if (message.type === "error" && message.code === "unauthorized") {
      refusal = message.message;
      // An anonymous session stays open after an error, but this page needs its own user.
      return isConnected ? closed({ code: 4501 }, token, refusal) : undefined;
    }
    receive(message);
  };
  mine.onclose = (event) => closed(event, token, refusal);
}

// With several tokens in the address, the one of the chosen user.
function chosenToken() {
  return tokensInAddress()[Math.max(users.selectedIndex, 0)] ?? "";
}

// Offers the users of the tokens in the address, if there are several.
function offerUsers() {
  const tokens = tokensInAddress();
  users.replaceChildren(...tokens.map((token, at) => new Option(claimsOf(token).sub ?? `token ${at + 1}`)));
  users.parentElement.hidden = tokens.length < 2;
}

// What is shown to this user without being asked for.
function channelsOf(user) {
  return ["prices.*", `user.${user}.notifications`, ...(user === ADMIN ? ["admin.*"] : [])];
}

// Drops the connection without waiting for it to close: a dead one takes long.
function disconnect() {
  clearTimeout(timer);
  if (!socket) return;
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close();
  socket = undefined;
  maxSilence = 0;
}

async function closed(event, token, refusal) {
  const mine = socket;
  clearTimeout(timer);
  maxSilence = 0;
  if (event.code === 4001 || event.code === 4501) {
    const until = expiry(token);
    const age = until && until < Date.now() ? ` It expired ${distance(until)} ago.` : "";
    const why = refusal ? `The node rejects the token: ${refusal}.` : `${sentence(closeReason(event))}.`;
    return stop(event.code === 4001 || age ? "token expired" : "token rejected", why + age, NEW_TOKEN);
  }
  if (event.code === 4504) return stop("no token", "This page has no token, and the node needs one.", NEW_TOKEN);
  if (event.code >= 4500 && event.code < 5000) {
    return stop("closed", `${sentence(closeReason(event))}.`, "Reload the page to try again.");
  }
  const state = await nodeState();
  if (socket !== mine) return;
  const [problem, fix] = {
  unreachable: [
      `The node at ${location.host} does not answer.`,
      "Is `tidegate dev` still running? If it uses another port now, open the link that it printed last.",
    ],
    "not ready": [
    `The node at ${location.host} is not ready: it cannot reach NATS, or it is shutting down.`,
    "See its log. Is nats-server running?",
    ],
    ready: [`${sentence(closeReason(event))}.`, ""],
  }[state];
  const delay = 200 + Math.random() * Math.min(20_000, 500 * 2 ** attempts++);
  show(state === "unreachable" ? "node unreachable" : "connecting", false);
  errors.show(problem, fix, Date.now() + delay, attempts);
  timer = setTimeout(connect, delay);
}

// Stops reconnecting: another attempt would fail in the same way.
function stop(words, problem, fix) {
disconnect();
show(words, false);
errors.show(problem, fix);
}

// A lost network closes no connection, so check for silence.
setInterval(() => {
  if (maxSilence && Date.now() - lastMessageAt > maxSilence) {
  disconnect();
    closed({ code: 1006, reason: "" }, "", undefined);
  }
}, 1_000);

// A new link in the same tab changes only the fragment, which does not reload the page.
addEventListener("hashchange", () => {
  attempts = 0;
  offerUsers();
  connect();
});

// What one user has received is not for the next.
users.addEventListener("change", () => {
  attempts = 0;
  rows.replaceChildren();
  log.replaceChildren();
  added.clear();
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
      // With a token, wait for the session of its user.
      if (message.user === "anonymous" && chosenToken()) break;
      clearTimeout(timer);
      attempts = 0;
      maxSilence = 2 * message.ping_interval_ms + 10_000;
      errors.hide();
      show("connected", true);
      send({ type: "subscribe", channels: [...new Set([...channelsOf(message.user), ...added])] });
      break;
    case "subscribed":
      answer.textContent = `subscribed to ${message.channel}`;
      message.snapshot.forEach(updateRow);
      break;
    case "message":
      updateRow(message);
      if (!(message.subject || message.channel).startsWith("prices.")) write(message);
      break;
    case "ping":
      send({ type: "pong" });
      break;
    case "error":
      if (message.channel) added.delete(message.channel);
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

function updateRow(message) {
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
  added.add(channel);
  if (socket?.readyState === WebSocket.OPEN) send({ type: "subscribe", channel });
  else answer.textContent = `not connected: the page subscribes to ${channel} when it is`;
  form.reset();
});

offerUsers();
connect();
