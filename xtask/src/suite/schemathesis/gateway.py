"""What both runs share: a gateway while it serves, and schemathesis against it."""

import contextlib
import json
import pathlib
import subprocess
import sys
import time

READY_WITHIN_SECONDS = 60


def _address(folder, process):
    end = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            return json.loads((folder / "state/ready.json").read_text())["listen"][0]
        except (OSError, ValueError):
            time.sleep(0.05)
    sys.exit("the gateway is not ready: " + (folder / "log").read_text())


@contextlib.contextmanager
def serving(binary, folder):
    """The address of a gateway with the `bastide.yaml` of a folder, while it serves."""
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([binary, "serve"], cwd=folder, stderr=log)
        try:
            yield _address(folder, process)
        finally:
            process.terminate()
            process.wait()


def schemathesis(folder, document, address, examples, checks, patience_seconds, *more):
    """Tries every operation of a document; says on standard output what was found, if something was."""
    tool = pathlib.Path(sys.executable).parent / "schemathesis"
    command = [str(tool), "run", str(document), "--url", f"http://{address}", *more]
    command += ["--mode", "all", "--phases", "coverage,fuzzing", "--max-examples", examples, "--seed", "7"]
    command += ["--request-timeout", "60"]
    command += ["--checks", checks, "--continue-on-failure", "--suppress-health-check", "all"]
    judged = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=patience_seconds)
    if judged.returncode:
        print(judged.stdout[-4000:], judged.stderr[-1000:])
    return judged
