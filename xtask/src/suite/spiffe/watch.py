"""PyPI's `spiffe` against the Workload API: one identity watched through two rotations of its
authority, and tokens. Prints a line for each thing that came out."""

import sys
import threading
import time

from spiffe import JwtSource, SpiffeId, TrustDomain, WorkloadApiClient, X509Source

socket = sys.argv[1]
domain = TrustDomain("example.org")


def check(name, outcome):
    print(("ok " if outcome else "FAIL ") + name, flush=True)


with X509Source(socket_path=socket) as source:
    changed = threading.Event()
    source.subscribe_for_updates(changed.set)
    serials, authorities, good, keys = set(), set(), True, set()
    until = time.monotonic() + 90
    while len(authorities) < 3 and time.monotonic() < until:
        context = source.get_x509_context()
        svid = context.default_svid
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(domain)
        issuer = [a for a in bundle.x509_authorities if a.subject == svid.leaf.issuer]
        try:
            svid.leaf.verify_directly_issued_by(issuer[0])
        except Exception as fault:  # whatever it is, it is not verified
            print(fault, flush=True)
            good = False
        serials.add(svid.leaf.serial_number)
        authorities.add(svid.leaf.issuer.rfc4514_string())
        keys.add(svid.private_key.private_numbers().private_value)
        changed.wait(10)
        changed.clear()
    check(f"python-watch {len(serials)} certificates of {len(authorities)} authorities", len(authorities) >= 3)
    check("python-each-verifies-with-its-bundle", good)
    check("python-a-key-for-each", len(keys) == len(serials))

with JwtSource(socket_path=socket) as source:
    token = source.fetch_svid(audience={"payments"}, subject=SpiffeId("spiffe://example.org/myservice"))
    check("python-token", str(token.spiffe_id) == "spiffe://example.org/myservice")
    client = WorkloadApiClient(socket_path=socket)
    check("python-validate", client.validate_jwt_svid(token.token, "payments").spiffe_id == token.spiffe_id)
    try:
        client.validate_jwt_svid(token.token, "orders")
        check("python-other-audience-refused", False)
    except Exception:
        check("python-other-audience-refused", True)
