"""One run of one stage, and its record.

runner        configuration, seed, a clean output folder, metrics
tracking      MLflow; artifacts: which files go there; lineage: which run made each present output
rebuilds      the parent run of a `dvc repro`
stores        the tracking store: where it is, and whether it answers
entries       what is sent to it, one by one; delivery: to the store, or to disk (pending)
provenance    which code, libraries and machine made a result
processes     which `dvc` a stage belongs to, and whether it still lives
surroundings  what a command needs of its machine: UTF-8, the account's name, a home
failures      errors of disk and store, in one line
"""

import os

# MLflow reads these at import, or at each request.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report its use
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its default of 7 makes a person wait for minutes, at each request.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
