// The test page of a vocabulary: connects to one of its paths, sends raw messages and shows all messages. No library.

const LOG_LINES = 200;
const outline = JSON.parse(document.querySelector("meta[name=outline]").content);
const status = document.getElementById("status");
const log = document.getElementById("log");
const parameters = document.getElementById("parameters");
const messages = document.getElementById("messages");
const connecting = document.getElementById("connect");
const sending = document.getElementById("send");
const errors = errorBox(connect);
let socket;

function path() {
  return outline.paths[connecting.elements.path.selectedIndex];
}

// Shows fields for the parameters of the chosen path and its query, and a button for each message of its rules.
function choosePath() {
  const inPath = [...path().path.matchAll(/\{(\w+)\}/g)].map(([, name]) => field(name, "path"));
  parameters.replaceChildren(...inPath, ...outline.queries.map((name) => field(name, "query")));
  messages.replaceChildren(...path().messages.map(messageButton));
}

function field(name, kind) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.dataset[kind] = name;
  input.required = kind === "path";
  label.append(`${name} `, input, " ");
  return label;
}

function messageButton(message) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = message;
  button.addEventListener("click", () => {
    const input = sending.elements.message;
    input.value = message;
    input.focus();
    const at = message.indexOf("…");
    if (at >= 0) input.setSelectionRange(at, at + 1);
  });
  return button;
}

function url() {
  let address = path().path;
  const query = new URLSearchParams();
  for (const { dataset, value } of parameters.querySelectorAll("input")) {
    if (dataset.path) address = address.replace(`{${dataset.path}}`, () => encodeURIComponent(value));
    else if (value) query.set(dataset.query, value);
  }
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${location.host}${address}${query.size ? `?${query}` : ""}`;
}

// A browser can set no other header of the handshake, and a token in the query would be logged.
function subprotocols() {
  const token = connecting.elements.token.value.trim();
  if (!token) return [outline.name];
  const bearer = btoa(token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [outline.name, `base64url.bearer.${bearer}`];
}

function connect() {
  if (socket) {
    socket.onclose = null;
    socket.close();
  }
  errors.hide();
  show("connecting", false);
  const mine = new WebSocket(url(), subprotocols());
  let isOpen = false;
  socket = mine;
  mine.onopen = () => {
    isOpen = true;
    show("connected", true);
  };
  mine.onmessage = (event) => write(`< ${event.data}`);
  mine.onclose = async (event) => {
    show("not connected", false);
    write(isOpen ? `closed: ${event.code} ${event.reason}` : "the connection was rejected", "note");
    if (isOpen && (event.code === 1000 || event.code === 1005)) return;
    const [problem, fix] = await explain(event, isOpen);
    if (socket === mine) errors.show(problem, fix);
  };
}

const PASTE = "into the field, or add it as #token=… to the address of this page.";

// Why the connection was closed, and what to do. A script cannot read why a handshake was rejected, so an HTTP call with the
// same token asks again.
async function explain(event, isOpen) {
  const token = connecting.elements.token.value.trim();
  const state = await nodeState();
  if (state === "unreachable") return [`The node at ${location.host} does not answer.`, "Is it running? Try again once it is."];
  if (isOpen) return [`${closeReason(event)[0].toUpperCase()}${closeReason(event).slice(1)}.`, ""];
  if (token) {
    const detail = await tokenError(token);
    const until = expiry(token);
    const age = until && until < Date.now() ? ` It expired ${distance(until)} ago.` : "";
    if (detail) return [`The node rejects the token: ${detail}.${age}`, `Get a new one and paste it ${PASTE}`];
  }
  if (state === "not ready") {
  return ["The node is not ready: it cannot reach NATS, or it is shutting down.", "See its log."];
  }
  if (!token) return ["The node rejects the connection: this path probably needs a token.", `Paste one ${PASTE}`];
  return [
    "The token is valid, but the connection was rejected.",
    "Check the parameters of the path. Does the path belong to this user? Has the user too many connections? See the node's log.",
  ];
}

// The node's error for a token, if it rejects it.
async function tokenError(token) {
  try {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(location.pathname, { headers, cache: "no-store" });
    return answer.ok ? undefined : (await answer.json()).detail;
  } catch {
    return undefined;
  }
}

function write(text, className = "") {
  const line = document.createElement("li");
  const code = document.createElement("code");
  line.className = className;
  code.textContent = text;
  line.append(code);
  log.prepend(line);
  while (log.children.length > LOG_LINES) log.lastChild.remove();
}

function show(words, connected) {
  status.textContent = words;
  status.className = connected ? "connected" : "";
}

connecting.addEventListener("submit", (event) => {
  event.preventDefault();
  connect();
});
document.getElementById("close").addEventListener("click", () => socket?.close());
sending.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = sending.elements.message.value;
  if (socket?.readyState !== WebSocket.OPEN) return write("not connected: the message was not sent", "note");
  socket.send(text);
  write(`> ${text}`);
});

document.title = `${outline.name}: test page`;
document.querySelector("h1").textContent = outline.name;
document.getElementById("about").textContent = outline.description;
for (const { name, path } of outline.paths) connecting.elements.path.add(new Option(`${path} (${name})`));
// The token is in the fragment of the address, which browsers do not send to servers.
connecting.elements.token.value = new URLSearchParams(location.hash.slice(1)).get("token") || "";
connecting.elements.path.addEventListener("change", choosePath);
choosePath();
