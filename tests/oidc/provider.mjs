// An OpenID Connect provider for tests. It listens on a free port of this machine and prints the URL of its issuer.
//
// Programs get access tokens with `client_credentials` for the resource `urn:tidegate`. `POST /rotate?keep=1` makes a new
// signing key and keeps the old one in the key set; with `keep=0` the old one is gone.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const RESOURCE = "urn:tidegate";
const ALGORITHM = process.argv[2] ?? "ES256";

const KINDS = {
  ES256: ["ec", { namedCurve: "P-256" }],
  ES384: ["ec", { namedCurve: "P-384" }],
  EdDSA: ["ed25519", {}],
  PS256: ["rsa", { modulusLength: 2048 }],
  RS256: ["rsa", { modulusLength: 2048 }],
};

function newKey() {
  const { privateKey } = generateKeyPairSync(...KINDS[ALGORITHM]);
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), alg: ALGORITHM, use: "sig" };
}

function provider(issuer, keys) {
  return new Provider(issuer, {
    jwks: { keys },
    enabledJWA: { idTokenSigningAlgValues: [ALGORITHM] },
    clients: [
      {
        client_id: "reports",
        client_secret: "a secret of these tests",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: ALGORITHM,
      },
    ],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        getResourceServerInfo: () => ({
          scope: "read",
          audience: "tidegate",
          accessTokenTTL: 600,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: ALGORITHM } },
        }),
      },
    },
    extraTokenClaims: () => ({ role: "user" }),
  });
}

let keys = [newKey()];
let answer;
const server = createServer((request, response) => {
  const url = new URL(request.url, issuer());
  if (request.method === "POST" && url.pathname === "/rotate") {
    keys = [newKey(), ...(url.searchParams.get("keep") === "1" ? keys.slice(0, 1) : [])];
    answer = provider(issuer(), keys).callback();
    response.writeHead(204).end();
    return;
  }
  answer(request, response);
});

function issuer() {
  return `http://127.0.0.1:${server.address().port}`;
}

server.listen(0, "127.0.0.1", () => {
  answer = provider(issuer(), keys).callback();
  console.log(issuer());
});
// The test that started it closes this pipe when it ends.
process.stdin.on("end", () => process.exit()).resume();
