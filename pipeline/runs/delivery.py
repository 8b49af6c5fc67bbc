"""How entries reach the tracking store, or the disk while it is away."""

import sys
from typing import Any

from mlflow.tracking import MlflowClient

from pipeline import config
from pipeline.runs import failures, pending, stores
from pipeline.runs.entries import send


class Line:
    """Sends entries to the store in order.

    From the first entry that a server does not take, all later ones go to disk.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._journal: pending.Journal | None = None

    def send(self, what: str, run: str, **values: Any) -> str:
        """As `entries.send`; "" where the entry went to disk."""
        entry = {"what": what, "run": run, **values}
        uri = stores.address()
        if self._journal is None:
            try:
                return send(self._client, entry)
            except Exception as error:
                if not (stores.is_remote(uri) and stores.is_away(error)):
                    raise
                self._journal = pending.Journal(stores.place(uri))
                print(
                    f"fieldmark: {stores.place(uri)} went away ({failures.reason(error)}); what it "
                    f"did not take is kept in .fieldmark/pending, for the next command that "
                    f"reaches it",
                    file=sys.stderr,
                )
        self._journal.add({**entry, "again": True})
        return ""

    def close(self) -> None:
        """Send nothing more; another process may deliver what is on disk."""
        if self._journal is not None:
            self._journal.close()


def connect(experiment: str = "") -> MlflowClient:
    """A client of the store; creates the experiment and delivers the entries on disk.

    By default that is the experiment of the project.

    Raises FieldmarkError, within seconds, where the store does not answer.
    """
    client = stores.connect(experiment or config.project())
    place = stores.place(stores.address())
    if pending.folder().exists():
        try:
            if n := pending.deliver(place, lambda entry: send(client, entry)):
                print(f"{place} now has the {n} entries it did not take before", file=sys.stderr)
        except Exception as error:
            if not isinstance(error, KeyError | ValueError) and not stores.is_away(error):
                raise
            print(
                f"fieldmark: {place} did not take what is kept in .fieldmark/pending "
                f"({failures.reason(error)}); it stays there, and may be deleted",
                file=sys.stderr,
            )
    return client
