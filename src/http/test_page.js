// The test page of a vocabulary: one WebSocket by one of its paths, raw messages, all that comes. No library.

const LOG_LINES = 200;
const outline = JSON.parse(document.querySelector("meta[name=outline]").content);
const status = document.getElementById("status");
const log = document.getElementById("log");
const parameters = document.getElementById("parameters");
const messages = document.getElementById("messages");
const connecting = document.getElementById("connect");
const sending = document.getElementById("send");
const trouble = troubleBox(connect);
let socket;

function path() {
  return outline.paths[connecting.elements.path.selectedIndex];
}

// The parameters of the chosen path, the queries that count, and a button for each message that its rules know.
function choose() {
  const inPath = [...path().path.matchAll(/\{(\w+)\}/g)].map(([, name]) => field(name, "path"));
  parameters.replaceChildren(...inPath, ...outline.queries.map((name) => field(name, "query")));
  messages.replaceChildren(...path().messages.map(offer));
}

function field(name, kind) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.dataset[kind] = name;
  input.required = kind === "path";
  label.append(`${name} `, input, " ");
  return label;
}

function offer(message) {
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

// A header of the handshake is the one place where a browser can put a credential that no log keeps.
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
  trouble.hide();
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
    write(isOpen ? `closed: ${event.code} ${event.reason}` : "the connection was refused", "note");
    if (isOpen && (event.code === 1000 || event.code === 1005)) return;
    const [what, todo] = await reason(event, isOpen);
    if (socket === mine) trouble.show(what, todo);
  };
}

const PASTE = "into the field, or put it behind #token= in the address of this page.";

// Why it ended, and what to do. Of a refused handshake a script hears nothing, so the token is shown once more in a call.
async function reason(event, isOpen) {
  const token = connecting.elements.token.value.trim();
  const state = await nodeState();
  if (state === "away") return [`The node at ${location.host} does not answer.`, "Is it running? Try again once it is."];
  if (isOpen) return [`${closeWords(event)[0].toUpperCase()}${closeWords(event).slice(1)}.`, ""];
  if (token) {
    const said = await refusal(token);
    const until = expiry(token);
    const age = until && until < Date.now() ? ` It expired ${distance(until)} ago.` : "";
    if (said) return [`The node refuses the token: ${said}.${age}`, `Get a new one and paste it ${PASTE}`];
  }
  if (state === "unready") {
    return ["The node is not ready: it cannot reach NATS, or it is about to end.", "Its log says which."];
  }
  if (!token) return ["The node refuses the connection: this path probably needs a token.", `Paste one ${PASTE}`];
  return [
    "The token is good, and the connection was refused all the same.",
    "Is every parameter of the path right, and the path this user's own? Has the user too many connections? The node's log says which.",
  ];
}

// What the node says of a token, if it does not take it.
async function refusal(token) {
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
  if (socket?.readyState !== WebSocket.OPEN) return write("not connected: nothing is sent", "note");
  socket.send(text);
  write(`> ${text}`);
});

document.title = `${outline.name}: test page`;
document.querySelector("h1").textContent = outline.name;
document.getElementById("about").textContent = outline.description;
for (const { name, path } of outline.paths) connecting.elements.path.add(new Option(`${path} (${name})`));
// The token stands behind the #, which browsers keep to themselves.
connecting.elements.token.value = new URLSearchParams(location.hash.slice(1)).get("token") || "";
connecting.elements.path.addEventListener("change", choose);
choose();
