"""Fieldmark: from a folder of images to a model in production, with every step on record.

cli         the command `fieldmark`: one sub-command a stage, and what a person asks for
config/     params.yaml over conf/, checked against a schema; what one stage may see
stages/     the eight stages: functions from folders and parameters to one folder
repository/ git: what is in a commit, an old one checked out, a newer Fieldmark
runs/       one run of a stage and its record: MLflow, lineage, provenance
storage/    the one table; packed images and arrays on disk, whole or not there
compute/    where work runs: on all cores, in a process of its own
pixels/     from the bytes of a file to square RGB
sources/    where images come from
labels/     doubtful labels, duplicates, quality, people's decisions, the split
features/   pretrained networks and classical descriptors as extractors, and what is kept of them
training/   heads, the LightningModule, augmentation, fitting
search/     comparing candidates, the Optuna study
evaluation/ metrics, slices, abstention
report/     the page that shows them
exported/   the exported folder: written, loaded and run
promotion/  gates, the alias `production`, its history; rebuilding an old run
serving/    a model in production: asked over HTTP or on its page
monitor/    records of predictions, drift, accuracy, alerts, and the page that shows them
review/     the page on which people settle labels
feedback/   images that came back from production, on their way there
prediction/ a model in production on the command line: files, videos, cameras
web/        what pages of one file share and may load

Every message that a user can act on is a FieldmarkError.
"""


class FieldmarkError(Exception):
    """Something the user can put right; the message says what is wrong and what to do."""


def one_line(error: BaseException) -> str:
    """What a library's exception says, in one line of at most 300 characters; its type where it
    says nothing.
    """
    return " ".join(str(error).split())[:300] or type(error).__name__
