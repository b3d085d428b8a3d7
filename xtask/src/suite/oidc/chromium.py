"""Chromium through login, consent, second factors, the account page and both kinds of answer,
by keyboard alone, with and without scripts. Prints "ok NAME" or "FAIL NAME: why"."""

import base64
import contextlib
import hashlib
import html
import http.server
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
from websockets.sync.client import connect

ISSUER = json.loads(sys.argv[1])["shop"]
PEOPLE = json.loads(sys.argv[1])["people"]
SECRET = "a-secret-that-everybody-knows-0123456789"
PASSWORD = "correct horse battery staple"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
WAIT_SECONDS = 60


class Application(http.server.BaseHTTPRequestHandler):
    """Where answers arrive: of another origin than the provider. It sends the browser on to a third."""

    answers = queue.Queue()

    def answer(self, query):
        if self.path.startswith("/cb"):
            self.send_response(303)
            self.send_header("location", f"http://localhost:{self.server.server_port}/inside")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>back</title>")
        if self.path.startswith("/cb"):
            Application.answers.put({name: values[0] for name, values in parse_qs(query).items()})

    def do_GET(self):
        self.answer(urlsplit(self.path).query)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["content-length"])).decode())

    def log_message(self, *_):
        pass


class Page:
    """One tab, driven over the DevTools protocol."""

    def __init__(self, socket):
        self.socket = socket
        self.last = 0
        self.complaints = []
        for domain in ["Page", "Runtime", "Log", "DOM", "Accessibility"]:
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=WAIT_SECONDS))
            if message.get("method") == "Log.entryAdded":
                entry = message["params"]["entry"]
                # The tab's icon, which nobody has, and the page of a refused login.
                if entry["level"] == "error" and "favicon" not in entry.get("url", "") and "401" not in entry["text"]:
                    self.complaints.append(f"{entry['text']} ({entry.get('url')})")
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"]["text"])
            if message.get("id") == self.last:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]

    def value(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def html(self):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        return self.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]

    def wait(self, text):
        end = time.monotonic() + WAIT_SECONDS
        before = ""
        while time.monotonic() < end:
            try:
                html = self.html()
            except AssertionError:
                html = ""
            found = re.search(text, html)
            # Read to its end, laid out and focused when it is the same a moment later.
            if found and html == before:
                return html
            before = html
            time.sleep(0.3 if found else 0.05)
        raise AssertionError(f"expected {text!r}, found {html}; {self.complaints}")

    def focused(self):
        """What has the focus, as it is told to who cannot see it."""
        for node in self.call("Accessibility.getFullAXTree")["nodes"]:
            focused = any(p["name"] == "focused" and p["value"].get("value") for p in node.get("properties", []))
            if focused and node.get("role", {}).get("value") != "RootWebArea":
                return node
        return {}

    def type(self, text):
        # A page is there before its field has the focus.
        end = time.monotonic() + WAIT_SECONDS
        while self.focused().get("role", {}).get("value") != "textbox":
            assert time.monotonic() < end, f"no field has the focus; {self.html()}"
            time.sleep(0.05)
        self.call("Input.insertText", text=text)

    def key(self, name, code):
        for kind in ["rawKeyDown", "char", "keyUp"]:
            more = {"text": "\r"} if kind == "char" and name == "Enter" else {}
            if kind == "char" and not more:
                continue
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **more)

    def tab(self):
        self.key("Tab", 9)

    def enter(self):
        self.key("Enter", 13)

    def shot(self, name):
        """A picture of the page, and that nothing of it lies outside, also twice as large."""
        folder = os.environ.get("SCREENSHOTS")
        for zoom in [1, 2]:
            self.call("Emulation.setDeviceMetricsOverride", width=800 // zoom, height=900 // zoom,
                      deviceScaleFactor=zoom, mobile=False)
            time.sleep(0.1)
            wide, room = self.size()
            assert wide <= room, f"{name} at {zoom * 100} %: {wide} pixels wide of {room}"
            if folder:
                picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
                with open(os.path.join(folder, f"{name}-{zoom * 100}.png"), "wb") as file:
                    file.write(base64.b64decode(picture))
        self.call("Emulation.clearDeviceMetricsOverride")

    def size(self):
        """How wide the page is, and how wide its window: also where scripts are off."""
        metrics = self.call("Page.getLayoutMetrics")
        return metrics["cssContentSize"]["width"], metrics["cssLayoutViewport"]["clientWidth"]

    def to(self, text):
        """Tabs to what is called so."""
        for _ in range(60):
            if text == self.focused().get("name", {}).get("value"):
                return
            self.tab()
            time.sleep(0.03)
        raise AssertionError(f"no way to {text!r} by keyboard; {self.html()}")

    def press(self, text):
        self.to(text)
        self.enter()

    def log_in(self, password=PASSWORD):
        self.wait('type="password"')
        self.type("alice")
        self.tab()
        self.type(password)
        self.enter()


class Chromium:
    def __init__(self):
        self.sockets = contextlib.ExitStack()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             f"--user-data-dir={self.folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        place = os.path.join(self.folder.name, "DevToolsActivePort")
        end = time.monotonic() + 2 * WAIT_SECONDS
        while not (os.path.exists(place) and open(place).read()):
            assert time.monotonic() < end, "chromium does not start"
            time.sleep(0.1)
        self.port = open(place).readline().strip()

    def context(self, address, scripts=True):
        """A new tab without cookies of others."""
        version = json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json/version"))
        with connect(version["webSocketDebuggerUrl"], max_size=None) as browser:
            def call(method, **parameters):
                browser.send(json.dumps({"id": 1, "method": method, "params": parameters}))
                while True:
                    message = json.loads(browser.recv(timeout=WAIT_SECONDS))
                    if message.get("id") == 1:
                        return message["result"]

            context = call("Target.createBrowserContext", disposeOnDetach=False)["browserContextId"]
            target = call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        socket = connect(f"ws://127.0.0.1:{self.port}/devtools/page/{target}", max_size=None)
        page = Page(self.sockets.enter_context(socket))
        page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.call("Page.navigate", url=address)
        return page

    def end(self):
        self.sockets.close()
        self.process.terminate()
        self.process.wait(timeout=WAIT_SECONDS)


def address(port, client="web", issuer=ISSUER, **parameters):
    return f"{issuer}/authorize?" + urlencode({
        "client_id": client, "redirect_uri": f"http://127.0.0.1:{port}/cb", "response_type": "code",
        "scope": "openid orders:read", "state": "the state", "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    } | parameters)


def arrived(page, port, client="web", issuer=ISSUER):
    """The answer at the application, and that its code is good."""
    answer = Application.answers.get(timeout=WAIT_SECONDS)
    page.wait("<title>back</title>")
    assert (answer["state"], answer["iss"]) == ("the state", issuer), answer
    if "code" in answer:
        form = urlencode({
            "grant_type": "authorization_code", "code": answer["code"], "code_verifier": VERIFIER,
            "redirect_uri": f"http://127.0.0.1:{port}/cb", "client_id": client, "client_secret": SECRET,
        })
        tokens = json.load(urllib.request.urlopen(f"{issuer}/token", form.encode()))
        assert "id_token" in tokens, tokens
        claims = tokens["id_token"].split(".")[1]
        answer["claims"] = json.loads(base64.urlsafe_b64decode(claims + "=="))
    return answer


def login(chromium, port, scripts):
    page = chromium.context(address(port), scripts)
    page.log_in("wrong")
    html = page.wait("The user name or the password is wrong")
    assert 'role="alert"' in html
    # The name is kept, and the password is where the caret is.
    page.type(PASSWORD)
    page.enter()
    arrived(page, port)
    # Known now: no page.
    page.call("Page.navigate", url=address(port, prompt="none"))
    assert "code" in arrived(page, port)
    assert not page.complaints, page.complaints
    return page


def consent(chromium, port, scripts):
    # Asked whatever was consented to before.
    page = chromium.context(address(port, "consent", prompt="consent"), scripts)
    page.log_in()
    page.wait("asks for access")
    page.shot("consent")
    page.tab()
    page.tab()
    page.enter()
    assert arrived(page, port)["error"] == "access_denied"
    page.call("Page.navigate", url=address(port, "consent", prompt="consent"))
    page.wait("asks for access")
    page.tab()
    page.enter()
    assert "code" in arrived(page, port, "consent")
    assert not page.complaints, page.complaints


def form_post(chromium, port, scripts):
    page = chromium.context(address(port, response_mode="form_post"), scripts)
    page.log_in()
    if not scripts:
        page.wait("Back to the application")
        page.tab()
        page.enter()
    assert "code" in arrived(page, port)
    assert not page.complaints, page.complaints


def logout(chromium, port, scripts):
    page = login(chromium, port, scripts)
    page.call("Page.navigate", url=f"{ISSUER}/logout")
    page.wait("Log out\\?")
    page.tab()
    page.enter()
    page.wait("Logged out")
    page.call("Page.navigate", url=address(port, prompt="none"))
    assert arrived(page, port)["error"] == "login_required"
    assert not page.complaints, page.complaints


def secret_of(text):
    """The key that the page shows, as the phone reads it."""
    return pyotp.parse_uri(html.unescape(re.search(r'href="(otpauth:[^"]+)"', text).group(1)))


# Of the people's realm; one person's app, over all tests.
APP = []


def code():
    """A code that was not used yet."""
    while True:
        now = int(time.time())
        new = APP[0].at(now)
        if new not in APP[1:]:
            APP.append(new)
            return new
        time.sleep(1)


def virtual(page):
    """An authenticator that verifies its user."""
    page.call("WebAuthn.enable")
    page.call("WebAuthn.addVirtualAuthenticator", options={
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    })


def enrolment(chromium, port, scripts):
    """Who needs a factor and has none; the second time, who has one."""
    page = chromium.context(address(port, "office", PEOPLE), scripts)
    page.wait('type="password"')
    page.shot("login" if scripts else "login-plain")
    page.log_in()
    if not APP:
        text = page.wait("Set up a second factor")
        page.shot("enrol")
        APP.append(secret_of(text))
        page.to("The code that the app shows")
        page.type("000000")
        page.enter()
        page.wait("not the code of now")
        page.shot("enrol-wrong")
        page.type(code())
        page.enter()
        page.wait("Keep these recovery codes")
        page.shot("codes")
        page.press("I have kept them")
    else:
        page.wait("one-time-code")
        page.shot("factor")
        page.type("000000")
        page.enter()
        page.wait("The code is wrong")
        page.type(code())
        page.enter()
        if scripts:
            # A second time before the answer is there: the code is good once.
            page.enter()
    claims = arrived(page, port, "office", PEOPLE)["claims"]
    assert (claims["acr"], claims["amr"]) == ("2", ["pwd", "otp", "mfa"]), claims
    assert not page.complaints, page.complaints


def account(chromium, port, scripts):
    other = chromium.context(f"{PEOPLE}/account", scripts)
    page = chromium.context(f"{PEOPLE}/account", scripts)
    for one in [other, page]:
        one.log_in()
        one.wait("one-time-code")
        one.type(code())
        one.enter()
        one.wait("Where you are logged in")
    page.call("Page.navigate", url=f"{PEOPLE}/account")
    page.wait("End all others")
    page.shot("account" if scripts else "account-plain")
    page.press("End all others")
    page.wait("All other sessions have ended")
    other.call("Page.navigate", url=f"{PEOPLE}/account")
    other.wait('type="password"')
    page.press("Choose a password")
    page.wait("New password")
    page.shot("password")
    page.press("Back to your account")
    page.press("Log out")
    page.wait("Log out\\?")
    assert not page.complaints, page.complaints


def passkey(chromium, port, scripts):
    """Enrolled at the account page, then the second factor, then alone. Needs scripts; without
    them nothing of it is seen."""
    page = chromium.context(f"{PEOPLE}/account", scripts)
    virtual(page)
    page.log_in()
    page.wait("one-time-code")
    page.type(code())
    page.enter()
    page.wait("Where you are logged in")
    page.press("Add a factor")
    page.wait("Authenticator app")
    if not scripts:
        page.shot("add-plain")
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        assert not any("passkey" in node.get("name", {}).get("value", "").lower() for node in tree)
        return
    page.shot("add")
    page.press("Set up a passkey")
    page.wait("The factor is set up")
    page.shot("account-passkey")
    for alone in [False, True]:
        page.call("Page.navigate", url=address(port, issuer=PEOPLE, prompt="login"))
        page.wait('type="password"')
        if alone:
            page.press("Log in with a passkey")
        else:
            page.log_in()
            page.wait("Use a passkey")
            page.shot("factor-passkey")
            page.press("Use a passkey")
        claims = arrived(page, port, issuer=PEOPLE)["claims"]
        methods = set(claims["amr"]) - {"hwk", "swk"}
        assert methods == ({"user", "mfa"} if alone else {"pwd", "user", "mfa"}), claims
        assert claims["acr"] == "2", claims
    # One that is there no more says so, and the password still does.
    page.call("WebAuthn.disable")
    assert not page.complaints, page.complaints


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
threading.Thread(target=server.serve_forever, daemon=True).start()
chromium = Chromium()
failed = 0
try:
    for test in [login, consent, form_post, logout, enrolment, account, passkey]:
        for scripts in [True, False]:
            Application.answers = queue.Queue()
            name = f"chromium: {test.__name__.replace('_', ' ')} {'with' if scripts else 'without'} scripts"
            try:
                test(chromium, server.server_port, scripts)
                print(f"ok {name}", flush=True)
            except Exception as error:  # every failure is a line
                failed += 1
                traceback.print_exc()
                print(f"FAIL {name}: {error!r}", flush=True)
finally:
    chromium.end()
sys.exit(1 if failed else 0)
