"""A quick try: params.yaml turned so that a model is there sooner."""

from omegaconf import OmegaConf

from pipeline import FieldmarkError
from pipeline.config.files import CANDIDATES, CONF, PARAMS, read_yaml
from pipeline.repository import blocks, git

PRESET = CONF / "quick.yaml"
LEFT_OUT = (
    "A quick try: smaller images, one candidate, no training of networks, no search of "
    "hyperparameters, no audit of label-check.\n"
    f"{PARAMS} says so now; for the full run: git checkout {PARAMS}; make repro"
)


def turn() -> str:
    """Write the values of conf/quick.yaml into params.yaml, comments kept; says what is left out.

    Raises FieldmarkError where params.yaml cannot be rewritten, or has edits that git could not
    bring back.
    """
    values, preset = read_yaml(PARAMS), read_yaml(PRESET)
    for name, own in preset.items():
        base = {} if name == CANDIDATES else values.get(name, {})
        values[name] = OmegaConf.to_container(OmegaConf.merge(base, own))
    text = PARAMS.read_text(encoding="utf-8")
    turned = blocks.merge(text, text, text, values)
    if turned is None:
        raise FieldmarkError(f"{PARAMS} cannot be rewritten; set by hand what {PRESET} holds")
    if turned != text:
        if git.answer("status", "--porcelain", "--untracked-files=no", "--", str(PARAMS)):
            raise FieldmarkError(
                f"{PARAMS} has edits that are in no commit; `git commit -am TEXT` first, so that "
                f"git can bring them back after the quick try"
            )
        PARAMS.write_text(turned, encoding="utf-8")
    return LEFT_OUT
