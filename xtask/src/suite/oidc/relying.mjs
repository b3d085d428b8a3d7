// The gateway's relying party and its introspection, against npm's oidc-provider (certified by the
// OpenID Foundation). Usage: node relying.mjs BASTIDE FOLDER GATEWAY_PORT PROVIDER_PORT UPSTREAM_PORT
// Prints one line for each step, and ends with 1 when one failed.

import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { request as secure } from "node:https";
import { request as plain } from "node:http";
import { existsSync, readFileSync, writeFileSync, mkdirSync, openSync } from "node:fs";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { Provider } from "oidc-provider";
import { calculateJwkThumbprint } from "jose";

const [bastide, folder, gatewayPort, providerPort, upstreamPort] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${providerPort}`;
const origin = `https://localhost:${gatewayPort}`;
const secret = "a-client-secret-with+signs/of:40-characters";
let failed = 0;

function check(name, holds, found) {
  console.log(holds ? `ok ${name}` : `FAIL ${name}: ${JSON.stringify(found)}`);
  if (!holds) failed += 1;
}

const counts = { refresh: 0, introspect: 0 };

function startProvider(jwk) {
  const shared = {
    redirect_uris: [`${origin}/auth/callback`],
    post_logout_redirect_uris: [`${origin}/auth/signed-out`],
    grant_types: ["authorization_code", "refresh_token", "client_credentials"],
    response_types: ["code"],
  };
  const provider = new Provider(issuer, {
    clients: [
      { ...shared, client_id: "basic", client_secret: secret, token_endpoint_auth_method: "client_secret_basic" },
      { ...shared, client_id: "keyed", token_endpoint_auth_method: "private_key_jwt", jwks: { keys: [jwk] } },
    ],
    features: {
      devInteractions: { enabled: true },
      introspection: { enabled: true },
      clientCredentials: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    cookies: { keys: ["a key for cookies"] },
    claims: { openid: ["sub", "roles", "acr"] },
    conformIdTokenClaims: false,
    acrValues: ["gold"],
    issueRefreshToken: async () => true,
    rotateRefreshToken: true,
    ttl: { AccessToken: 3, IdToken: 60, RefreshToken: 600, Session: 600, Grant: 600, Interaction: 600, ClientCredentials: 600 },
    findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id, roles: ["customer"] }) }),
  });
  provider.use(async (context, next) => {
    await next();
    if (context.oidc?.route === "token" && context.oidc.params?.grant_type === "refresh_token") counts.refresh += 1;
    if (context.oidc?.route === "introspection") counts.introspect += 1;
  });
  return new Promise((resolve) => provider.listen(Number(providerPort), "127.0.0.1", resolve));
}

function startUpstream() {
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ principal: request.headers["x-bastide-principal"], cookie: request.headers.cookie ?? "" }));
  });
  return new Promise((resolve) => server.listen(Number(upstreamPort), "127.0.0.1", resolve));
}

let running;

async function startGateway(client, authentication) {
  if (running) {
    const ended = new Promise((resolve) => running.once("exit", resolve));
    running.kill("SIGTERM");
    await ended;
  }
  const at = join(folder, client);
  mkdirSync(at, { recursive: true });
  writeFileSync(join(at, "secret.txt"), secret);
  writeFileSync(join(at, "bastide.yaml"), `
state: ./state
admin: { address: 127.0.0.1:0 }
workers: 2
listen:
  - address: 127.0.0.1:${gatewayPort}
    tls: { local: true }
roles: { customer: {} }
authentication:
  audience: ${client}
  issuers:
    - issuer: ${issuer}
      allow_private_addresses: true
      introspection: { client: ${client}, ${authentication}, danger_any_audience: true }
  session: { client: ${client}, ${authentication} }
services: { shop: [ "http://127.0.0.1:${upstreamPort}" ] }
routes:
  - { match: localhost/auth/**, to: sessions, authenticate: none, allow: anyone }
  - { name: shop, match: localhost/shop/**, to: shop, authenticate: session }
  - { name: api, match: localhost/api/**, to: shop, authenticate: opaque, allow: authenticated }
policies:
  inline: |
    permit (principal in Role::"customer", action, resource == Route::"shop");
`);
  const log = openSync(join(at, "gateway.log"), "w");
  running = spawn(bastide, ["serve", "--config", "bastide.yaml"], { cwd: at, stdio: ["ignore", "ignore", log] });
  for (let tries = 0; tries < 1200; tries += 1) {
    if (existsSync(join(at, "state/ready.json"))) return { ca: readFileSync(join(at, "state/ca/ca.pem")), at };
    if (running.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(readFileSync(join(at, "gateway.log"), "utf8"));
}

class Browser {
  constructor(ca) {
    this.ca = ca;
    this.jars = {};
  }

  async ask(method, address, { form, headers = {} } = {}) {
    const url = new URL(address);
    const jar = (this.jars[url.origin] ??= {});
    const cookie = Object.entries(jar).map(([name, value]) => `${name}=${value}`).join("; ");
    const body = form ? new URLSearchParams(form).toString() : undefined;
    const fields = { accept: "text/html", ...headers };
    if (cookie) fields.cookie = cookie;
    if (body) fields["content-type"] = "application/x-www-form-urlencoded";
    if (body || method === "POST") fields["content-length"] = Buffer.byteLength(body ?? "");
    const send = url.protocol === "https:" ? secure : plain;
    const answer = await new Promise((resolve, reject) => {
      const request = send(url, { method, headers: fields, ca: this.ca, agent: false }, (response) => {
        let text = "";
        response.on("data", (part) => (text += part));
        response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text, url }));
      });
      request.on("error", reject);
      request.end(body);
    });
    for (const set of answer.headers["set-cookie"] ?? []) {
      const [pair] = set.split(";");
      const at = pair.indexOf("=");
      const value = pair.slice(at + 1);
      if (!value || /max-age=0|expires=thu, 01 jan 1970/i.test(set)) delete jar[pair.slice(0, at)];
      else jar[pair.slice(0, at)] = value;
    }
    return answer;
  }

  // Follows redirects and fills in the provider's forms, as a person would.
  async visit(address, headers) {
    let answer = await this.ask("GET", address, { headers });
    for (let hops = 0; hops < 30; hops += 1) {
      if (answer.headers.location) {
        answer = await this.ask("GET", new URL(answer.headers.location, answer.url).href);
        continue;
      }
      const action = answer.text.match(/<form[^>]*action="([^"]+)"/)?.[1];
      if (!action || answer.url.origin !== issuer) return answer;
      const form = {};
      for (const [input] of answer.text.matchAll(/<input[^>]*>/g)) {
        const name = input.match(/name="([^"]+)"/)?.[1];
        if (name) form[name] = input.match(/value="([^"]*)"/)?.[1] ?? "";
      }
      if ("login" in form) Object.assign(form, { login: "alice", password: "any" });
      if (answer.text.includes('name="logout"')) form.logout = "yes";
      answer = await this.ask("POST", new URL(action.replaceAll("&amp;", "&"), answer.url).href, { form });
    }
    return answer;
  }
}

async function flow(client, authentication) {
  const { ca, at } = await startGateway(client, authentication);
  const browser = new Browser(ca);
  let page;
  for (let tries = 0; tries < 600; tries += 1) {
    page = await browser.ask("GET", `${origin}/shop/list`);
    if (page.status === 303) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  check(`${client}: a page without a session leads to the provider`, page.headers.location?.startsWith(`${issuer}/auth?`), page);
  page = await browser.visit(`${origin}/shop/list?page=2`);
  check(`${client}: login by code with PKCE, nonce and iss`, page.status === 200 && page.url.href === `${origin}/shop/list?page=2`, { page, log: readFileSync(join(at, "gateway.log"), "utf8") });
  const seen = page.status === 200 ? JSON.parse(page.text) : {};
  check(`${client}: the service is told who it is, and sees no cookie`, seen.principal === "alice" && seen.cookie === "", seen);
  const call = () => browser.ask("GET", `${origin}/shop/list`, { headers: { accept: "application/json" } });
  await new Promise((resolve) => setTimeout(resolve, 3200));
  const [before, begun] = [counts.refresh, Date.now()];
  const answers = await Promise.all(Array.from({ length: 50 }, call));
  check(`${client}: 50 requests at the tokens' end are served`, answers.every((answer) => answer.status === 200), answers.map((answer) => answer.status));
  // And once more each time that these have ended too, where the machine takes that long.
  const [refreshed, most] = [counts.refresh - before, 1 + Math.floor((Date.now() - begun) / 3000)];
  check(`${client}: and refresh once`, refreshed >= 1 && refreshed <= most, refreshed);
  const stolen = { ...browser.jars[origin] };
  const out = await browser.ask("POST", `${origin}/auth/logout`, { headers: { origin } });
  check(`${client}: logout leads to the provider`, out.headers.location?.startsWith(`${issuer}/session/end?`), out);
  const end = await browser.visit(out.headers.location);
  check(`${client}: and back`, end.url.pathname === "/auth/signed-out" && end.status === 200, end);
  browser.jars[origin] = stolen;
  check(`${client}: the session's cookie is worth nothing afterwards`, (await call()).status === 401);
  // Opaque tokens.
  const post = (path, form) => browser.ask("POST", `${issuer}${path}`, { form, headers: { authorization: `Basic ${Buffer.from(`basic:${encodeURIComponent(secret)}`).toString("base64")}` } });
  if (client === "basic") {
    const token = JSON.parse((await post("/token", { grant_type: "client_credentials" })).text).access_token;
    const use = (value) => browser.ask("GET", `${origin}/api/x`, { headers: { authorization: `Bearer ${value}` } });
    const asked = counts.introspect;
    const uses = await Promise.all(Array.from({ length: 20 }, () => use(token)));
    check("opaque: taken as the provider says", uses.every((answer) => answer.status === 200), uses.map((answer) => answer.status));
    check("opaque: asked once for all", counts.introspect - asked === 1, counts.introspect - asked);
    check("opaque: an unknown one is refused", (await use("unknown")).status === 401);
  }
}

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const pem = join(folder, "client.pem");
writeFileSync(pem, privateKey.export({ type: "pkcs8", format: "pem" }));
const jwk = publicKey.export({ format: "jwk" });
await startProvider({ ...jwk, use: "sig", alg: "ES256", kid: await calculateJwkThumbprint(jwk) });
await startUpstream();
try {
  await flow("basic", "secret: \"${file:secret.txt}\"");
  await flow("keyed", `private_key: ${pem}`);
} catch (error) {
  check("the run itself", false, String(error));
} finally {
  running?.kill("SIGTERM");
}
process.exit(failed ? 1 : 0);
