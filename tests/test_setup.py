"""The set-up that scripts/quickstart and scripts/test share."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_failed_installation_says_how_much_room_there_is_and_is_tried_again(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    pip = venv / "bin" / "python"
    pip.write_text("#!/bin/sh\necho 'ERROR: No space left on device' >&2\nexit 1\n")
    pip.chmod(0o755)
    script = f'set -euo pipefail; . scripts/_setup; make_venv "{venv}"; echo installed'
    failed = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "No space left on device" in failed.stderr
    assert re.search(r"takes up to 7 GB.* Free there: \d+\.\d GB; for temporary files: \d+\.\d GB\.", failed.stderr)

    pip.write_text("#!/bin/sh\nexit 0\n")
    again = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0
    assert again.stdout == "installed\n"
    assert "The installation into" not in again.stderr
