"""A strict stand-in of the W&B server on the loopback interface: fixture ``wandb_server`` in ``tests/tracking/conftest.py``.

Read what it received from ``runs``, ``artifact(name)``, ``sweeps`` and ``requests``; switch faults on with
``faults.fail(401)``, ``faults.hang()``, ``faults.drop()``, ``go_away()`` and off with ``faults.heal()``, ``come_back()``.
A query, field or argument that the schema lacks, a malformed body, a line of the history that comes twice or leaves a hole,
an upload with another size or digest than announced: each is listed in ``errors``, and the fixture fails the test.

Observed of wandb-core 0.31.0, and kept to here:

- ``Viewer`` first, if a login is verified; then ``RunResumeStatus``, if resuming is allowed; then ``UpsertBucket`` with all
  facts of the run, and again with the configuration alone whenever that changes.
- The file stream posts ``wandb-summary.json`` at offset 0 each time, ``wandb-history.jsonl`` from the line after the last
  one, ``{}`` as a heartbeat, and at the end ``complete`` with ``exitcode``, after all files were uploaded and in the same
  request as the last rows. ``uploaded`` names files whose PUT has been answered.
- An artifact is ``CreateArtifact`` (with its digest: a version that has it already is answered, and nothing more is sent),
  ``CreateArtifactManifest`` without upload, ``CreateArtifactFiles``, one PUT for each file, ``CreateArtifactManifest`` with
  the manifest's digest, its PUT, ``CommitArtifact``. Digests are MD5 in base64.
- The public API goes through wandb-core too, as ``W&B Public Client``.
"""

from tests.tracking.standin.server import wandb_standin
from tests.tracking.standin.state import Standin

__all__ = ["Standin", "wandb_standin"]
