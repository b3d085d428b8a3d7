// Refresh tokens by the whole way: a browser that logs in once, and codes that are redeemed. Prints
// one token for each line. Usage: node tokens.mjs SETTINGS COUNT

import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";

const [file, count] = process.argv.slice(2);
const { issuer, resource, scope, secret, callback, username, password } = JSON.parse(readFileSync(file, "utf8"));
const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const cookies = new Map();

async function ask(method, address, form) {
  const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") };
  const body = form && new URLSearchParams(form);
  const answer = await fetch(address, { method, headers, body, redirect: "manual" });
  for (const set of answer.headers.getSetCookie()) {
    const [pair] = set.split(";");
    const at = pair.indexOf("=");
    const [name, value] = [pair.slice(0, at), pair.slice(at + 1)];
    if (value) cookies.set(name, value);
    else cookies.delete(name);
  }
  return { status: answer.status, next: answer.headers.get("location"), text: await answer.text(), address };
}

// Follows redirects and fills in forms until it is sent back to the client.
async function visit(address) {
  let answer = await ask("GET", address);
  for (let hops = 0; hops < 20; hops += 1) {
    if (answer.next) {
      const next = new URL(answer.next, answer.address).href;
      if (next.startsWith(callback)) return new URL(next).searchParams;
      answer = await ask("GET", next);
      continue;
    }
    const [page, action] = answer.text.match(/<form[^>]*action="([^"]+)"[\s\S]*?<\/form>/) ?? [];
    if (!page) break;
    const form = {};
    for (const [input] of page.matchAll(/<input[^>]*>/g)) {
      const name = input.match(/name="([^"]+)"/)?.[1];
      if (name) form[name] = input.match(/value="([^"]*)"/)?.[1] ?? "";
    }
    // The first button is yes.
    const [, button, value] = page.match(/<button name="([^"]+)" value="([^"]*)"/) ?? [];
    if (button) form[button] = value;
    for (const name of ["login", "username"]) if (name in form) form[name] = username;
    if ("password" in form) form.password = password;
    answer = await ask("POST", new URL(action.replaceAll("&amp;", "&"), answer.address).href, form);
  }
  throw new Error(`no way back to the client: ${answer.status} ${answer.text}`);
}

for (let number = 0; number < Number(count); number += 1) {
  const verifier = randomBytes(32).toString("base64url");
  const request = new URL(metadata.authorization_endpoint);
  request.search = new URLSearchParams({
    client_id: "web",
    response_type: "code",
    redirect_uri: callback,
    scope: `openid offline_access ${scope}`,
    resource,
    prompt: "consent",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
  });
  const answer = await visit(request.href);
  if (!answer.get("code")) throw new Error(`no code: ${answer}`);
  const redeemed = await ask("POST", metadata.token_endpoint, {
    grant_type: "authorization_code",
    code: answer.get("code"),
    redirect_uri: callback,
    code_verifier: verifier,
    client_id: "web",
    client_secret: secret,
    resource,
  });
  const token = JSON.parse(redeemed.text).refresh_token;
  if (!token) throw new Error(`no refresh token: ${redeemed.text}`);
  console.log(token);
}
