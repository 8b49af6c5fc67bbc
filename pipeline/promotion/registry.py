"""The versions and aliases of the registered model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient

from pipeline import FieldmarkError
from pipeline.runs import failures, tracking

CANDIDATE, PRODUCTION, PREVIOUS = "candidate", "production", "previous"
T = TypeVar("T")
# What is raised where a store does not answer: by MLflow, the database, the network and the file
# system.
NO_ANSWER = (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError)


@dataclass(frozen=True)
class Registry:
    """One registered model in one store, and the experiment that holds its history."""

    client: MlflowClient
    experiment: str
    name: str

    def aliases(self) -> dict[str, str]:
        """Alias -> version. Raises FieldmarkError where no model of this name is registered."""
        try:
            registered_aliases = self.client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                how = (
                    "`dvc repro` registers one, or, where that has nothing to do, `dvc repro "
                    "--force --single-item export`"
                )
                raise FieldmarkError(f"no model {self.name} is registered yet; {how}") from error
            raise
        return {alias: str(version) for alias, version in registered_aliases.items()}

    def versions(self) -> list[ModelVersion]:
        """All that exist, newest first."""
        query = f"name = '{self.name}'"
        versions = every(lambda token: self.client.search_model_versions(query, page_token=token))
        return sorted(versions, key=lambda version: -int(version.version))

    def find(self, name: str) -> ModelVersion:
        """A version by its number or alias. Raises FieldmarkError that names what there is."""
        aliases = self.aliases()
        there = {str(version.version): version for version in self.versions()}
        number = aliases.get(name.lower(), name)
        if number not in there:
            raise FieldmarkError(
                f"{self.name} has no version or alias {name!r}; there are "
                f"{', '.join([*there, *aliases]) or 'none'}"
            )
        return there[number]

    def production(self) -> ModelVersion | None:
        """The version in production, or None."""
        number = self.aliases().get(PRODUCTION)
        return next(
            (version for version in self.versions() if str(version.version) == number), None
        )

    def point(self, alias: str, version: str | None) -> None:
        """Move an alias, or remove it where `version` is None.

        It is one row in one transaction, so readers see the old version or the new one.
        """
        if version is None:
            self.client.delete_registered_model_alias(self.name, alias)
        else:
            self.client.set_registered_model_alias(self.name, alias, version)


def history_of(name: str) -> str:
    """The experiment that holds the history of a model."""
    return f"{name}-promotions"


def connect(name: str) -> Registry:
    """The registry of the store in use; restores a history that was deleted in MLflow."""
    client, history = tracking.connect(), history_of(name)
    there = client.get_experiment_by_name(history)
    if there is not None and there.lifecycle_stage == "deleted":
        client.restore_experiment(there.experiment_id)
    client = tracking.connect(history)
    experiment = client.get_experiment_by_name(history)
    assert experiment is not None
    return Registry(client, str(experiment.experiment_id), name)


@contextmanager
def answering(advice: str = "try again once it answers") -> Iterator[None]:
    """Raise FieldmarkError, one line with what to do, where the store does not answer inside."""
    try:
        yield
    except NO_ANSWER as error:
        raise FieldmarkError(f"the store failed ({failures.reason(error)}); {advice}") from error


def every(page: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    """The entries of all pages of a search."""
    entries = page(None)
    yield from entries
    while entries.token:  # None after a database's last page, "" after a server's
        entries = page(entries.token)
        yield from entries
