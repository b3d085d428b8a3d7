// Flows of npm's openid-client against the provider. Prints "ok NAME" or "FAIL NAME: why".

import * as client from "openid-client";
import { createServer } from "node:http";
import * as jose from "jose";

const issuers = JSON.parse(process.argv[2]);
const logoutAddress = new URL(process.argv[3]);
const SECRET = "a-secret-that-everybody-knows-0123456789";
const PASSWORD = "correct horse battery staple";
const ORDERS = "https://orders.example.org";
const PAYMENTS = "https://payments.example.org";
const CALLBACK = "http://127.0.0.1:51004/cb";
const KEY = {
  kty: "EC", crv: "P-256", alg: "ES256", kid: "jwt-1",
  x: "lTUSxj305EDUwuaNng7WatbUp4BqqrZQuU3u0pSj8cU", y: "AsIJPGOSptb6U3bfDAwnmMhGcXTsJsjk8qHlSWHLWbs",
  d: "Ac51QfYJyR5nWB7Jzj7iLYG3q8gebhr1uXWVdHKNeSs",
};

function equal(found, expected, what) {
  const [one, two] = [JSON.stringify(found), JSON.stringify(expected)];
  if (one !== two) throw new Error(`${what}: expected ${two}, found ${one}`);
}

async function refused(promise, error) {
  try {
    await promise;
  } catch (caught) {
    const found = caught.error ?? caught.cause?.error ?? caught.cause?.get?.("error") ?? caught.code;
    return equal(found, error, "error");
  }
  throw new Error(`expected ${error}, found success`);
}

// A browser: cookies, redirects, forms.
class Browser {
  cookies = new Map();

  async send(address, init = {}) {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(address, { ...init, redirect: "manual", headers: { ...init.headers, cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(";")[0].split("=");
      if (value) this.cookies.set(name, value); else this.cookies.delete(name);
    }
    const next = response.headers.get("location");
    if (!next) return { address: new URL(address), text: await response.text(), status: response.status };
    const target = new URL(next, address);
    if (target.origin !== new URL(address).origin) return { left: target };
    return this.send(target);
  }

  submit(page, fields) {
    const form = page.text.split("<form")[1];
    const action = new URL(form.match(/action="([^"]*)"/)[1], page.address);
    const body = new URLSearchParams();
    for (const [input] of form.matchAll(/<input[^>]*type="hidden"[^>]*>/g)) {
      body.append(input.match(/name="([^"]*)"/)[1], decode(input.match(/value="([^"]*)"/)[1]));
    }
    for (const [name, value] of Object.entries(fields)) body.set(name, value);
    if (action.origin !== page.address.origin) return { posted: body, left: action };
    return this.send(action, { method: "POST", body, headers: { origin: page.address.origin } });
  }

  async logIn(page) {
    if (!page.text?.includes("type=\"password\"")) throw new Error(`expected the login, found ${JSON.stringify(page)}`);
    return this.submit(page, { username: "alice", password: PASSWORD });
  }

  // Follows an authorization to the client, logging in where asked.
  async authorize(address) {
    let page = await this.send(address);
    if (page.text?.includes("type=\"password\"")) page = await this.logIn(page);
    return page;
  }
}

function decode(text) {
  return text.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(code)).replace(/&amp;/g, "&");
}

const options = { execute: [client.allowInsecureRequests] };
const discover = (id, metadata, authentication, issuer = issuers.shop) =>
  client.discovery(new URL(issuer), id, { id_token_signed_response_alg: "ES256", ...metadata }, authentication, options);
const web = (metadata) => discover("web", metadata, client.ClientSecretBasic(SECRET));

// The whole authorization code flow; gives tokens and what a replay needs.
async function codeFlow(config, { browser = new Browser(), parameters = {}, dpop, pushed, maxAge } = {}) {
  const verifier = client.randomPKCECodeVerifier();
  const [state, nonce] = [client.randomState(), client.randomNonce()];
  const all = {
    redirect_uri: CALLBACK, scope: "openid profile email offline_access orders:read", state, nonce,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256", ...parameters,
  };
  const address = pushed
    ? await client.buildAuthorizationUrlWithPAR(config, all, dpop ? { DPoP: dpop } : undefined)
    : client.buildAuthorizationUrl(config, all);
  const { left } = await browser.authorize(address);
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true, maxAge };
  const tokens = await client.authorizationCodeGrant(config, left, checks, undefined, dpop && { DPoP: dpop });
  return { tokens, left, checks, browser };
}

const tests = {
  async "discovery by both documents"() {
    const oidc = await web();
    const oauth = await client.discovery(new URL(issuers.shop), "web", undefined, undefined, { ...options, algorithm: "oauth2" });
    equal(oidc.serverMetadata(), oauth.serverMetadata(), "metadata");
  },
  async "code with PKCE, userinfo, refresh: client_secret_basic"() {
    const config = await web();
    const { tokens } = await codeFlow(config);
    equal(tokens.claims().sub, "alice-1", "sub");
    const told = await client.fetchUserInfo(config, tokens.access_token, "alice-1");
    equal([told.name, told.email, told.email_verified], ["Alice Example", "alice@example.org", true], "userinfo");
    const again = await client.refreshTokenGrant(config, tokens.refresh_token);
    equal(again.claims().sub, "alice-1", "sub");
    equal(again.refresh_token === tokens.refresh_token, false, "rotated");
  },
  async "code: client_secret_post"() {
    await codeFlow(await discover("web", {}, client.ClientSecretPost(SECRET)));
  },
  async "code: public client"() {
    const { tokens } = await codeFlow(await discover("spa", {}, client.None()));
    equal(typeof tokens.refresh_token, "string", "refresh token");
  },
  async "code: private_key_jwt"() {
    const key = { key: await jose.importJWK(KEY, "ES256"), kid: "jwt-1" };
    await codeFlow(await discover("jwt", {}, client.PrivateKeyJwt(key)));
  },
  async "ID tokens by RS256 and EdDSA"() {
    for (const [id, alg] of [["web-rs256", "RS256"], ["web-eddsa", "EdDSA"]]) {
      const { tokens } = await codeFlow(await discover(id, { id_token_signed_response_alg: alg }, client.ClientSecretBasic(SECRET)));
      equal(jose.decodeProtectedHeader(tokens.id_token).alg, alg, "alg");
    }
  },
  async "access tokens are at+jwt for their resource"() {
    const config = await web();
    const { tokens } = await codeFlow(config, { parameters: { resource: ORDERS } });
    const keys = jose.createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri));
    const expected = { issuer: issuers.shop, audience: ORDERS, typ: "at+jwt" };
    const { payload } = await jose.jwtVerify(tokens.access_token, keys, expected);
    equal([payload.client_id, payload.roles], ["web", ["customer"]], "claims");
  },
  async "form_post"() {
    const config = await web();
    const verifier = client.randomPKCECodeVerifier();
    const parameters = {
      redirect_uri: CALLBACK, scope: "openid", response_mode: "form_post", state: "a \"state\"",
      code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
    };
    const browser = new Browser();
    const page = await browser.authorize(client.buildAuthorizationUrl(config, parameters));
    const { posted, left } = browser.submit(page, {});
    const request = new Request(left, { method: "POST", body: posted });
    await client.authorizationCodeGrant(config, request, { pkceCodeVerifier: verifier, expectedState: "a \"state\"", idTokenExpected: true });
  },
  async "prompt, max_age, login_hint, claims"() {
    const config = await web();
    const { browser } = await codeFlow(config);
    await codeFlow(config, { browser, parameters: { prompt: "none" } });
    await refused(codeFlow(config, { parameters: { prompt: "none" } }), "login_required");
    const { tokens } = await codeFlow(config, { browser, parameters: { max_age: "0" }, maxAge: 10 });
    equal(typeof tokens.claims().auth_time, "number", "auth_time");
    const hinted = await new Browser().send(client.buildAuthorizationUrl(config, {
      redirect_uri: CALLBACK, scope: "openid", login_hint: "alice", code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", code_challenge_method: "S256",
    }));
    equal(hinted.text.includes("value=\"alice\""), true, "hint");
    const claims = JSON.stringify({ id_token: { email: null }, userinfo: { name: { essential: true } } });
    const asked = await codeFlow(config, { browser, parameters: { scope: "openid", claims } });
    equal(asked.tokens.claims().email, "alice@example.org", "email");
    equal((await client.fetchUserInfo(config, asked.tokens.access_token, "alice-1")).name, "Alice Example", "name");
  },
  async "consent"() {
    const config = await discover("consent", {}, client.ClientSecretBasic(SECRET));
    const browser = new Browser();
    const begin = () => client.buildAuthorizationUrl(config, {
      redirect_uri: CALLBACK, scope: "openid orders:read", state: "s",
      code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", code_challenge_method: "S256",
    });
    const page = await browser.authorize(begin());
    const denied = await browser.submit(page, { decision: "deny" });
    equal(denied.left.searchParams.get("error"), "access_denied", "denied");
    const allowed = await browser.submit(await browser.send(begin()), { decision: "allow" });
    equal(allowed.left.searchParams.has("code"), true, "allowed");
    await codeFlow(config, { browser, parameters: { scope: "openid orders:read", prompt: "none" } });
  },
  async "pushed authorization requests"() {
    await codeFlow(await web(), { pushed: true });
    const strict = await discover("web", {}, client.ClientSecretBasic(SECRET), issuers.strict);
    equal(strict.serverMetadata().require_pushed_authorization_requests, true, "metadata");
  },
  async "DPoP, with nonces and pushed requests"() {
    for (const issuer of [issuers.shop, issuers.strict]) {
      const config = await discover("spa", {}, client.None(), issuer);
      const dpop = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
      const { tokens } = await codeFlow(config, { dpop, pushed: true });
      equal(tokens.token_type.toLowerCase(), "dpop", "token type");
      await client.fetchUserInfo(config, tokens.access_token, "alice-1", { DPoP: dpop });
      const next = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP: dpop });
      equal(next.token_type.toLowerCase(), "dpop", "token type");
      const thief = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
      await refused(client.refreshTokenGrant(config, next.refresh_token, undefined, { DPoP: thief }), "invalid_grant");
    }
  },
  async "client credentials"() {
    const config = await web();
    const tokens = await client.clientCredentialsGrant(config, { scope: "orders:read", resource: ORDERS });
    equal([tokens.scope, jose.decodeJwt(tokens.access_token).sub], ["orders:read", "web"], "token");
    await refused(client.clientCredentialsGrant(config, { scope: "admin" }), "invalid_scope");
    const wrong = await discover("web", {}, client.ClientSecretPost("wrong"));
    await refused(client.clientCredentialsGrant(wrong), "invalid_client");
  },
  async "introspection and revocation"() {
    const config = await web();
    const { tokens } = await codeFlow(config);
    equal((await client.tokenIntrospection(config, tokens.access_token)).active, true, "active");
    await client.tokenRevocation(config, tokens.access_token);
    equal((await client.tokenIntrospection(config, tokens.access_token)).active, false, "active");
    await client.tokenRevocation(config, tokens.refresh_token);
    await refused(client.refreshTokenGrant(config, tokens.refresh_token), "invalid_grant");
  },
  async "a replayed code takes back what it gave"() {
    const config = await web();
    const { tokens, left, checks } = await codeFlow(config);
    await refused(client.authorizationCodeGrant(config, left, checks), "invalid_grant");
    equal((await client.tokenIntrospection(config, tokens.access_token)).active, false, "active");
  },
  async "refresh: many at once, reuse"() {
    const config = await web();
    const { tokens } = await codeFlow(config);
    const many = await Promise.all(Array.from({ length: 8 }, () => client.refreshTokenGrant(config, tokens.refresh_token)));
    equal(new Set(many.map((one) => one.refresh_token)).size, 1, "successors");
    const next = await client.refreshTokenGrant(config, many[0].refresh_token);
    await refused(client.refreshTokenGrant(config, tokens.refresh_token), "invalid_grant");
    await refused(client.refreshTokenGrant(config, next.refresh_token), "invalid_grant");
  },
  async "device authorization"() {
    const config = await discover("tv", {}, client.None());
    const device = await client.initiateDeviceAuthorization(config, { scope: "openid orders:read" });
    const polling = client.pollDeviceAuthorizationGrant(config, device);
    const browser = new Browser();
    const page = await browser.authorize(device.verification_uri_complete);
    const confirm = await browser.submit(page, { user_code: device.user_code });
    const done = await browser.submit(confirm, { decision: "allow" });
    equal(done.text.includes("Connected"), true, "page");
    equal((await polling).claims().sub, "alice-1", "sub");
  },
  async "token exchange"() {
    const { tokens } = await codeFlow(await web());
    const orders = await discover("orders", {}, client.ClientSecretBasic(SECRET));
    const exchanged = await client.genericGrantRequest(orders, "urn:ietf:params:oauth:grant-type:token-exchange", {
      subject_token: tokens.access_token, subject_token_type: "urn:ietf:params:oauth:token-type:access_token", resource: PAYMENTS,
    });
    const claims = jose.decodeJwt(exchanged.access_token);
    equal([claims.sub, claims.aud, claims.act], ["alice-1", PAYMENTS, { sub: "orders" }], "claims");
  },
  async "logout, and telling the client"() {
    const config = await web();
    const { tokens, browser } = await codeFlow(config);
    const heard = new Promise((resolve) => {
      const server = createServer((request, response) => {
        let body = "";
        request.on("data", (data) => { body += data; });
        request.on("end", () => {
          response.end();
          resolve(new URLSearchParams(body).get("logout_token"));
          server.close();
        });
      }).listen(Number(logoutAddress.port), "127.0.0.1");
    });
    const parameters = { id_token_hint: tokens.id_token, post_logout_redirect_uri: "http://127.0.0.1:51004/bye", state: "s" };
    const { left } = await browser.send(client.buildEndSessionUrl(config, parameters));
    equal(left.href, "http://127.0.0.1:51004/bye?state=s", "redirect");
    const keys = jose.createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri));
    const expected = { issuer: issuers.shop, audience: "web", typ: "logout+jwt" };
    const { payload } = await jose.jwtVerify(await heard, keys, expected);
    equal([payload.sub, payload.sid], ["alice-1", tokens.claims().sid], "logout token");
    await refused(codeFlow(config, { browser, parameters: { prompt: "none" } }), "login_required");
  },
  async "a response of another issuer is seen (RFC 9207)"() {
    const config = await web();
    const strict = await discover("web", {}, client.ClientSecretBasic(SECRET), issuers.strict);
    const { left, checks } = await codeFlow(config);
    await refused(client.authorizationCodeGrant(strict, left, checks), "OAUTH_INVALID_RESPONSE");
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    const cause = error.cause ? ` (${JSON.stringify(error.cause)?.slice(0, 300)})` : "";
    console.log(`FAIL ${name}: ${error.message}${cause} ${error.error ?? ""} ${error.error_description ?? ""}`);
  }
}
process.exit(failed ? 1 : 0);
