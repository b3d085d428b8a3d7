"""Flows of PyPI's authlib against the provider. Prints "ok NAME" or "FAIL NAME: why"."""

import html
import json
import os
import re
import sys
import traceback
from urllib.parse import parse_qs, urljoin, urlsplit

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

ISSUER = json.loads(sys.argv[1])["shop"]
SECRET = "a-secret-that-everybody-knows-0123456789"
PASSWORD = "correct horse battery staple"
CALLBACK = "http://127.0.0.1:51005/cb"
KEY = {
    "kty": "EC", "crv": "P-256", "kid": "jwt-1",
    "x": "lTUSxj305EDUwuaNng7WatbUp4BqqrZQuU3u0pSj8cU", "y": "AsIJPGOSptb6U3bfDAwnmMhGcXTsJsjk8qHlSWHLWbs",
    "d": "Ac51QfYJyR5nWB7Jzj7iLYG3q8gebhr1uXWVdHKNeSs",
}
META = requests.get(ISSUER + "/.well-known/openid-configuration", timeout=60).json()


class Browser:
    """Redirects and forms, with the cookies of Python's own jar, which returns none that is `Secure`
    over http; it gives the address at which it left the provider."""

    def __init__(self):
        self.session = requests.Session()

    def send(self, method, address, data=None):
        response = self.session.request(method, address, data=data, allow_redirects=False, timeout=60)
        if "location" not in response.headers:
            return address, response.text
        target = urljoin(address, response.headers["location"])
        if urlsplit(target).netloc != urlsplit(ISSUER).netloc:
            return target, None
        return self.send("GET", target)

    def authorize(self, address):
        address, page = self.send("GET", address)
        if page is None:
            return address
        form = page.split("<form")[1]
        data = {
            re.search('name="([^"]*)"', field)[1]: html.unescape(re.search('value="([^"]*)"', field)[1])
            for field in re.findall('<input[^>]*type="hidden"[^>]*>', form)
        }
        action = urljoin(address, re.search('action="([^"]*)"', form)[1])
        address, page = self.send("POST", action, data | {"username": "alice", "password": PASSWORD})
        assert page is None, f"expected the client, found {page}"
        return address


def session(client="web", secret=SECRET, method="client_secret_basic", **more):
    return OAuth2Session(
        client, secret, scope="openid email offline_access orders:read", redirect_uri=CALLBACK,
        code_challenge_method="S256", token_endpoint_auth_method=method, **more,
    )


def code_flow(client, browser=None, **parameters):
    verifier, nonce = generate_token(48), generate_token(16)
    address, state = client.create_authorization_url(
        META["authorization_endpoint"], code_verifier=verifier, nonce=nonce, **parameters
    )
    answer = (browser or Browser()).authorize(address)
    assert parse_qs(urlsplit(answer).query)["iss"] == [ISSUER]
    token = client.fetch_token(
        META["token_endpoint"], authorization_response=answer, code_verifier=verifier, state=state
    )
    keys = KeySet.import_key_set(requests.get(META["jwks_uri"], timeout=60).json())
    claims = jwt.decode(token["id_token"], keys, algorithms=["ES256", "RS256", "Ed25519", "EdDSA"]).claims
    assert (claims["iss"], claims["sub"], claims["nonce"]) == (ISSUER, "alice-1", nonce), claims
    return token, answer, verifier


def refused(error, call):
    try:
        call()
    except OAuthError as caught:
        assert caught.error == error, caught
        return
    raise AssertionError(f"expected {error}, found success")


def code_by_each_way():
    for method in ["client_secret_basic", "client_secret_post"]:
        token, _, _ = code_flow(session(method=method))
        assert token["token_type"] == "Bearer"
    code_flow(session("spa", None, "none"))


def code_by_private_key_jwt():
    client = session("jwt", ECKey.import_key(KEY), PrivateKeyJWT.name)
    client.register_client_auth_method(PrivateKeyJWT(META["token_endpoint"], alg="ES256"))
    code_flow(client)


def userinfo():
    client = session()
    code_flow(client)
    told = client.get(META["userinfo_endpoint"]).json()
    assert told["email"] == "alice@example.org", told


def refresh_and_reuse():
    client = session()
    first, _, _ = code_flow(client)
    second = client.refresh_token(META["token_endpoint"], refresh_token=first["refresh_token"])
    third = client.refresh_token(META["token_endpoint"], refresh_token=second["refresh_token"])
    for token in [first, third]:
        refused("invalid_grant", lambda token=token: client.refresh_token(
            META["token_endpoint"], refresh_token=token["refresh_token"]))


def client_credentials():
    client = OAuth2Session("web", SECRET, token_endpoint_auth_method="client_secret_basic")
    token = client.fetch_token(META["token_endpoint"], grant_type="client_credentials", scope="orders:read")
    assert token["scope"] == "orders:read", token
    wrong = OAuth2Session("web", "wrong", token_endpoint_auth_method="client_secret_basic")
    refused("invalid_client", lambda: wrong.fetch_token(META["token_endpoint"], grant_type="client_credentials"))


def introspection_and_revocation():
    client = session()
    token, _, _ = code_flow(client)

    def active():
        return client.introspect_token(META["introspection_endpoint"], token=token["access_token"]).json()["active"]

    assert active()
    assert client.revoke_token(META["revocation_endpoint"], token=token["access_token"]).status_code == 200
    assert not active()


def replayed_code():
    client = session()
    _, answer, verifier = code_flow(client)
    refused("invalid_grant", lambda: client.fetch_token(
        META["token_endpoint"], authorization_response=answer, code_verifier=verifier))


def single_sign_on():
    browser = Browser()
    code_flow(session(), browser)
    code_flow(session("web-eddsa"), browser, prompt="none")
    # Its answer goes to this machine, where any program may call itself so: the person is asked.
    address, _ = session("spa", None, "none").create_authorization_url(
        META["authorization_endpoint"], code_verifier=generate_token(48), prompt="none")
    answer = parse_qs(urlsplit(browser.authorize(address)).query)
    assert answer["error"] == ["consent_required"], answer


FAILED = 0
for test in [
    code_by_each_way, code_by_private_key_jwt, userinfo, refresh_and_reuse, client_credentials,
    introspection_and_revocation, replayed_code, single_sign_on,
]:
    name = "authlib: " + test.__name__.replace("_", " ")
    try:
        test()
        print(f"ok {name}", flush=True)
    except Exception as error:  # every failure is a line
        FAILED += 1
        traceback.print_exc()
        print(f"FAIL {name}: {error!r}", flush=True)
sys.exit(1 if FAILED else 0)
