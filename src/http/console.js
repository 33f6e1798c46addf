// The page of `tidegate dev`: subscribes over one WebSocket and shows what comes. No library, no build step.
"use strict";

const CHANNELS = ["prices.*", "user.demo.notifications"];
const LOG_LINES = 100;
const status = document.getElementById("status");
const rows = document.querySelector("#channels tbody");
const log = document.getElementById("log");
const answer = document.getElementById("answer");
const form = document.getElementById("subscribe");
const wanted = new Set(CHANNELS);
let socket;
let attempts = 0;
let sent = 0;

// The token stands behind the #, which browsers keep to themselves.
function token() {
  return new URLSearchParams(location.hash.slice(1)).get("token") || "";
}

// A header of the handshake is the one place where a browser can put a credential.
function subprotocols() {
  if (!token()) return ["tidegate.v1.json"];
  const bearer = btoa(token()).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["tidegate.v1.json", `base64url.bearer.${bearer}`];
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws`, subprotocols());
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = (event) => {
    const stop = event.code >= 4500 && event.code < 5000;
    show(stop ? `closed: ${event.reason}` : "connecting", false);
    if (stop) return;
    const most = Math.min(20_000, 500 * 2 ** attempts++);
    setTimeout(connect, 200 + Math.random() * most);
  };
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id: ++sent, ...message }));
}

function receive(message) {
  switch (message.type) {
    case "connected":
      attempts = 0;
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
      note("the token runs out: start `tidegate dev` anew");
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
  send({ type: "subscribe", channel });
  form.reset();
});

connect();
