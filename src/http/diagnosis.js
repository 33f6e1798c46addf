// What the pages share: why there is no connection, in words, and what to do. A browser tells scripts nothing of a refused
// handshake, so the node is asked in other ways.

const CLOSES = {
  1009: "a message was too large for the node",
  1011: "the node has made a mistake: its log says more",
  4000: "the node is restarting",
  4001: "the token has expired",
  4002: "this page did not take what it was sent",
  4003: "this page gave no sign of life: was the computer asleep?",
  4029: "this page has sent too much at once",
  4501: "the token was refused",
  4504: "no token came in time",
  4508: "this user has too many connections",
  4509: "this page has made too many mistakes",
};

// The token stands behind the #, which browsers keep to themselves.
function tokenInAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("token")?.trim() ?? "";
}

// Whether the node answers at all: "away", "unready" (not now) or "ready".
async function nodeState() {
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    return answer.ok ? "ready" : "unready";
  } catch {
    return "away";
  }
}

// Why a connection has ended, as the close says.
function closeWords({ code, reason }) {
  const words = CLOSES[code] ?? (code === 1006 ? "the connection broke" : `the connection was closed with ${code}`);
  return reason && !CLOSES[code] ? `${words} (${reason})` : words;
}

// When a token expires, if it is one that can be read. Its signature is the node's business.
function expiry(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(payload));
    return typeof exp === "number" ? new Date(exp * 1000) : undefined;
  } catch {
    return undefined;
  }
}

// How long ago or ahead a time is, for people.
function distance(time) {
  const seconds = Math.round(Math.abs(Date.now() - time) / 1000);
  for (const [unit, size] of [["day", 86_400], ["hour", 3_600], ["minute", 60]]) {
    const count = Math.floor(seconds / size);
    if (count) return `${count} ${unit}${count > 1 ? "s" : ""}`;
  }
  return `${seconds} s`;
}

// The box that says what is wrong; `again` is what its button does.
function troubleBox(again) {
  const box = document.getElementById("trouble");
  const retry = document.getElementById("retry");
  document.getElementById("again").addEventListener("click", () => again());
  let clock;
  return {
    // `what` is wrong, and `todo` is what the reader can do. `due` is when the page tries again by itself.
    show(what, todo, due, attempt) {
      clearInterval(clock);
      document.getElementById("what").textContent = what;
      document.getElementById("todo").textContent = todo;
      const tick = () => {
        const left = Math.max(0, Math.ceil((due - Date.now()) / 1000));
        retry.textContent = due ? `Trying again in ${left} s (attempt ${attempt + 1}).` : "";
      };
      tick();
      if (due) clock = setInterval(tick, 500);
      box.hidden = false;
    },
    hide() {
      clearInterval(clock);
      box.hidden = true;
    },
  };
}

