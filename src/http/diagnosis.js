// Shared by the pages: explains why there is no connection, and what to do. Browsers hide the reason of a rejected handshake
// from scripts, so the pages ask the node with HTTP requests.

const CLOSES = {
  1009: "a message was too large for the node",
  1011: "the node had an internal error: see its log",
  4000: "the node is restarting",
  4001: "the token has expired",
  4002: "this page was too slow to receive its messages",
  4003: "this page did not answer pings: was the computer asleep?",
  4004: "the node cannot verify the token yet, because it has not the keys of the issuer: see its log",
  4029: "this page sent too much in a short time",
  4501: "the token was rejected",
  4504: "no token arrived in time",
  4508: "this user has too many connections",
  4509: "this page sent too many invalid messages",
  4510: "this user has connected again, for example in another tab",
};

// The token is in the fragment of the address, which browsers do not send to servers.
function tokenInAddress() {
  return tokensInAddress()[0] ?? "";
}

function tokensInAddress() {
  return new URLSearchParams(location.hash.slice(1)).getAll("token").map((token) => token.trim());
}

// Whether the node answers: "unreachable", "not ready" or "ready".
async function nodeState() {
  try {
    const answer = await fetch("/readyz", { cache: "no-store" });
    return answer.ok ? "ready" : "not ready";
  } catch {
    return "unreachable";
  }
}

// Why the connection was closed, from the close code.
function closeReason({ code, reason }) {
  const words = CLOSES[code] ?? (code === 1006 ? "the connection broke" : `the connection was closed with ${code}`);
  return reason && !CLOSES[code] ? `${words} (${reason})` : words;
}

// When a token expires, if it is readable. Only the node can check its signature.
function expiry(token) {
  const { exp } = claimsOf(token);
  return typeof exp === "number" ? new Date(exp * 1000) : undefined;
}

// The claims of a token, none if it is not readable.
function claimsOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (byte) => byte.charCodeAt()))) ?? {};
  } catch {
    return {};
  }
}

// The time between now and another time, for people.
function distance(time) {
  const seconds = Math.round(Math.abs(Date.now() - time) / 1000);
  for (const [unit, size] of [["day", 86_400], ["hour", 3_600], ["minute", 60]]) {
    const count = Math.floor(seconds / size);
    if (count) return `${count} ${unit}${count > 1 ? "s" : ""}`;
  }
  return `${seconds} s`;
}

// The box that shows an error; its button calls `tryAgain`.
function errorBox(tryAgain) {
const box = document.getElementById("error");
  const retry = document.getElementById("retry");
  document.getElementById("again").addEventListener("click", () => tryAgain());
  let clock;
  return {
    // `problem` is what is wrong, and `fix` is what the reader can do. `due` is when the page tries again by itself.
    show(problem, fix, due, attempt) {
      clearInterval(clock);
      document.getElementById("problem").textContent = problem;
      document.getElementById("fix").textContent = fix;
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

