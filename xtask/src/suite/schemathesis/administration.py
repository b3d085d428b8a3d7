"""Runs schemathesis against the administration of a gateway, by a route, with an API key.

Arguments: the gateway's binary, the administration's document, examples per operation. The last
line says whether every answer is as the document says and nothing that breaks it was accepted.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gateway

PATIENCE_SECONDS = 900
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,negative_data_rejection"
)
CONFIGURATION = """
state: ./state
admin: { address: 127.0.0.1:0 }
listen: [ 127.0.0.1:0 ]
roles: { administrator: {} }
realms: { town: "https://localhost" }
authentication: { api_keys: api-keys.json }
routes:
  - name: admin
    match: /v1/**
    to: administration
    authenticate: api_key
policies:
  inline: |
    permit (principal in Role::"administrator", action, resource)
    when { resource.service == "administration" };
"""

binary, document, examples = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]


def bastide(folder, *arguments):
    return subprocess.run([binary, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def tried(folder):
    """The document as it is tried: with the realm that is there, and without the ways of
    authentication, whose wrong values the gateway refuses before anything is asked."""
    tried = json.loads(document.read_text())
    del tried["security"], tried["components"]["securitySchemes"]
    for operation in (one for path in tried["paths"].values() for one in path.values()):
        for parameter in operation.get("parameters", []):
            if parameter["name"] == "realm":
                parameter["schema"] = {"type": "string", "enum": ["town"]}
    (folder / "tried.json").write_text(json.dumps(tried))
    # TRACE is refused by the gateway itself.
    (folder / "schemathesis.toml").write_text('[phases.coverage]\nunexpected-methods = ["PATCH"]\n')
    return "tried.json"


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    (folder / "bastide.yaml").write_text(CONFIGURATION)
    bastide(folder, "init")
    made = bastide(folder, "key", "new", "--owner", "suite", "--role", "administrator", "--output", "json")
    with gateway.serving(binary, folder) as address:
        field = "X-API-Key: " + json.loads(made)["key"]
        judged = gateway.schemathesis(
            folder, tried(folder), address, examples, CHECKS, PATIENCE_SECONDS, "-H", field
        )

if judged.returncode:
    print("administration: not as its document says")
else:
    cases = [line.strip() for line in judged.stdout.splitlines() if "generated" in line]
    print(*cases)
    print("administration: as its document says")
