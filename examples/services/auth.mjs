// Says who a client is, and who may subscribe to a room: the service of docs/TOKENS.md for Tidegate.
//
//   npm ci
//   NATS_URL=nats://decider:PASSWORD@127.0.0.1:4222 node auth.mjs
//
// It knows two sessions, as a web framework would have them in its database.
import { connect as connectToNats } from "@nats-io/transport-node";

const sessions = new Map([["session-of-ann", "ann"], ["session-of-bob", "bob"]]);
const suspended = new Set(["bob"]);
const members = new Map([["rooms.staff", new Set(["ann"])]]);

/** The identity for a credential, or for the cookie `sessionid`. */
function connect(question) {
  const user = sessions.get(question.credential ?? question.cookies.sessionid);
  if (user === undefined) return { refused: "sign in again: this session has ended" };
  if (suspended.has(user)) return { refused: "your account is suspended" };
  const expires = Math.floor(Date.now() / 1000) + 3600;
  return { user, roles: ["user"], expires, channels: [`user.${user}.notifications`] };
}

/** Whether the client may subscribe. A channel with a wildcard would reach rooms of others. */
function subscribe(question) {
  if (members.get(question.channel)?.has(question.user)) return { allow: true, cache_s: 30 };
  return { allow: false, message: "only members of this room may read it" };
}

/** The address for the client, and the login in it. */
function server(text) {
  const url = new URL(text);
  const login = url.username ? { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) } : {};
  return { servers: url.host, ...login };
}

const client = await connectToNats(server(process.env.NATS_URL ?? "nats://127.0.0.1:4222"));

function answer(subject, decide) {
  // Several processes with the same queue share the questions.
  client.subscribe(subject, {
    queue: "auth",
    callback: (error, request) => {
      if (!error) request.respond(JSON.stringify(decide(request.json())));
    },
  });
}

answer("auth.connect", connect);
answer("authz.rooms", subscribe);
await client.flush();
console.log("ready");
