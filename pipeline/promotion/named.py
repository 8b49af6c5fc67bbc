"""The registered version that a person means: by number or alias, run, git revision or experiment."""

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline import FieldmarkError
from pipeline.promotion.registry import Registry
from pipeline.repository import git
from pipeline.runs import lineage

TOLD_APART_BY = "data/evaluate"  # the output whose hash names a model and its test


def version(registry: Registry, name: str) -> ModelVersion:
    """Raises FieldmarkError that says what may be named."""
    try:
        return registry.find(name)
    except FieldmarkError as unknown:
        found = _of_run(registry, name) or _of_revision(registry, name)
        if found is None:
            raise FieldmarkError(
                f"{unknown}. A run's id, a git revision or the name of a dvc experiment may stand "
                f"there too, and this is none whose rebuild registered a version"
            ) from unknown
        return found


def _of_run(registry: Registry, run_id: str) -> ModelVersion | None:
    """The version that a rebuild, or one of its stages, registered."""
    try:
        run = registry.client.get_run(run_id)
    except MlflowException:
        return None
    rebuild = run.data.tags.get("mlflow.parentRunId", run.info.run_id)
    query = f"tags.`mlflow.parentRunId` = '{rebuild}'"
    stages = registry.client.search_runs([run.info.experiment_id], query)
    own = {stage.info.run_id for stage in stages} | {run_id}
    return next((each for each in registry.versions() if each.run_id in own), None)


def _of_revision(registry: Registry, revision: str) -> ModelVersion | None:
    """The newest version whose evaluation has the hash that dvc.lock has at this revision."""
    experiment = git.answer("for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{revision}")
    commit = (experiment or "").splitlines()[:1] or [revision]
    lock = git.answer("show", f"{commit[0]}:./{lineage.LOCK}")
    evaluated = lineage.locked(lock).get(TOLD_APART_BY) if lock else None
    if evaluated is None:
        return None
    same = (each for each in registry.versions() if each.tags.get("data.evaluate") == evaluated)
    return next(same, None)
