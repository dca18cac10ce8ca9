"""schemathesis sends many requests that the OpenAPI document describes, and checks the responses against it.

`WAN22_SCHEMATHESIS_CASES=2000` sends that many requests or more, without a limit of time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.service import ROOT, Service, environment

_CASES = int(os.environ.get("WAN22_SCHEMATHESIS_CASES", "0"))
_SECONDS = {"examples,coverage,fuzzing": 40, "stateful": 15}
_OPERATIONS = 40
"""About the number of operations in the document."""
_LEFT_OUT = r"/queue/(pause|clear)|/generation-mode|/system/optimization$|/videos/sync"
"""Routes that would change what other tests of the shared service see, or that wait for a whole video."""


def test_responses_match_the_document(service: Service, tmp_path: Path) -> None:
    count = sum(_run(service, tmp_path, phases) for phases in _SECONDS)
    assert count >= max(_CASES, 100)


def _run(service: Service, folder: Path, phases: str) -> int:
    """Runs phases of schemathesis, and returns the number of its requests."""
    report = folder / f"{phases.partition(',')[0]}.json"
    limit = ["--max-examples", str(max(1, _CASES // _OPERATIONS))] if _CASES else ["--max-time", str(_SECONDS[phases])]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
            *("--phases", phases, "--checks", "all", "--seed", "1", "--generation-deterministic", "--no-shrink"),
            *(
                "--continue-on-failure",
                "--request-timeout",
                "60",
                "--max-response-time",
                "60",
                "--no-color",
                "--warnings",
                "off",
            ),
            *("--exclude-path-regex", _LEFT_OUT),
            *("--report-json-path", str(report), *limit),
        ],
        cwd=folder,
        env=environment(SCHEMATHESIS_HOOKS="tests.schemathesis_hooks", PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4_000:]
    cases: int = json.loads(report.read_text())["test_cases"]["generated"]
    return cases
