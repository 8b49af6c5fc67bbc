"""Fieldmark: from a folder of images to a model in production, with every step on record.

cli         the command `fieldmark`; commands/ holds its sub-commands
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
robustness/ attacks, corruptions, certificates
report/     the page that renders them
exported/   the exported folder: written, loaded and run
promotion/  gates, the alias `production`, its history; rebuilding an old run
serving/    a model in production, over HTTP and on its page
monitor/    records of predictions, drift, accuracy, alerts, and the page that shows them
review/     the page on which people settle labels
feedback/   images that came back from production, on their way there
prediction/ a model in production on the command line: files, videos, cameras
privacy/    a person's photo leaves the project
web/        what the pages share, and what they may load

Every error that a user can put right is a FieldmarkError.
"""

import re

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(\S+)")
# What stands before the path of an address without a user.
HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")
# The query of an address whose host a library left out.
QUERY = re.compile(r"\?[^\s?=]+=\S*")


class FieldmarkError(Exception):
    """Something the user can put right; the message says what is wrong and what to do.

    Secrets in the addresses that it names are left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


def redacted(text: str) -> str:
    """The text, with no user, password, query or fragment in any address."""
    return ADDRESS.sub(_bare, text) if "://" in text else text


def one_line(error: BaseException) -> str:
    """The message of a library's exception, without secrets, in one line.

    It has at most 300 characters, and is the exception's type where there is no message.
    """
    text = QUERY.sub("", redacted(" ".join(str(error).split())))
    return text[:300] or type(error).__name__


def _bare(address: re.Match[str]) -> str:
    scheme, rest = address.groups()
    end = re.search(r"[])}>,.;:'\"]*$", rest)
    assert end is not None  # what follows an address in a sentence
    body, behind = rest[: end.start()], end.group()
    authority = re.split(r"[/?#]", body, maxsplit=1)[0]
    if "@" in authority:
        body = body[authority.rindex("@") + 1 :]
    elif "@" in body and not HOST.fullmatch(authority):  # a password that should be quoted
        body = body[body.rindex("@") + 1 :]
    return scheme + re.split(r"[?#]", body, maxsplit=1)[0] + behind
