// npm's oidc-provider, set up for the same job as the realm beside it; what it keeps is in memory.
// Usage: node peer.mjs PORT SETTINGS, where SETTINGS is the JSON that `stage.rs` writes.

import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { Provider } from "oidc-provider";

const [port, file] = process.argv.slice(2);
const { issuer, resource, scope, secret, callback, seconds } = JSON.parse(readFileSync(file, "utf8"));

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const server = {
  scope,
  audience: resource,
  accessTokenTTL: seconds,
  accessTokenFormat: "jwt",
  jwt: { sign: { alg: "ES256" } },
};
const shared = {
  client_secret: secret,
  token_endpoint_auth_method: "client_secret_post",
  id_token_signed_response_alg: "ES256",
};
const provider = new Provider(issuer, {
  clients: [
    { ...shared, client_id: "importer", grant_types: ["client_credentials"], redirect_uris: [], response_types: [] },
    {
      ...shared,
      client_id: "web",
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: [callback],
      response_types: ["code"],
    },
  ],
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: "bench" }] },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: () => server,
      useGrantedResource: () => true,
    },
  },
  cookies: { keys: ["a key for cookies"] },
  scopes: ["openid", "offline_access", scope],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: seconds, ClientCredentials: seconds, IdToken: seconds, RefreshToken: 86400, Session: 86400, Grant: 86400, Interaction: 600 },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});
provider.listen(Number(port), "127.0.0.1");
