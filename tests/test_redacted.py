"""What an address holds of secrets stands in nothing that people or other machines get to read."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli, config, one_line, redacted
from pipeline.monitor import tables
from pipeline.prediction import camera
from pipeline.runs import tracking
from pipeline.sources import Item, Skipped
from pipeline.stages import ingest

SECRET = "hush"
URL = f"https://me:{SECRET}@h.example/a/1.jpg?X-Amz-Signature={SECRET}&x={SECRET}#{SECRET}"
PARTS = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=5)


@given(
    user=PARTS,
    before=PARTS,
    odd=st.sampled_from(["", "@", ":", "/", "?", "#", "%40", "'", '"', "]", "&", ","]),
    scheme=st.sampled_from(["http", "https", "s3", "gs", "postgresql+psycopg", "rtsp", "mysql"]),
    query=st.sampled_from(["", "?token=hush", "?hush", "#hush", "?a=1&b='hush'", "?x=hush?hush/@"]),
    frame=st.sampled_from(["{}", "{}: not found", "url='{}'", "({}, 1)", '["{}"]', "at {}."]),
)
def test_an_address_in_any_sentence_loses_user_password_and_query(
    user: str, before: str, odd: str, scheme: str, query: str, frame: str
) -> None:
    password = f"x{before}{odd}{SECRET}"
    text = frame.format(f"{scheme}://{user}:{password}@h.example/a/1.jpg{query}")
    plain = redacted(text)
    assert SECRET not in plain
    assert redacted(plain) == plain
    if odd not in ("/", "?", "#"):  # those belong to no password that is quoted as it should be
        assert f"{scheme}://h.example/a/1.jpg" in plain


@pytest.mark.parametrize(
    "text",
    [
        "no address at all?",
        "s3://bucket/a/1.jpg",
        "https://h.example/photo@2x.png",
        "http://127.0.0.1:8080/@me/1.jpg",
        "http://[::1]:80/a",
        "see https://h.example/a, and gs://b/c.",
        "a/b?c=d.jpg",
        "models:/fieldmark@production",
        "sqlite:////home/me/mlflow.db",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_no_message_holds_one() -> None:
    assert str(FieldmarkError(f"{URL}: not found")) == "https://h.example/a/1.jpg: not found"
    assert SECRET not in one_line(OSError(f"Max retries exceeded with url: /a?token={SECRET}"))
    assert SECRET not in repr([Item(URL, bytes, "a").name, Skipped(URL, f"is not {URL}")])


def test_ingest_records_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A listing of signed addresses, of which none can be had here."""
    (tmp_path / "labels.csv").write_text(f"path,label\n{URL},a\nftp{URL[5:]},b\nnone.jpg,b\n")
    source = OmegaConf.to_container(OmegaConf.load("conf/ingest/listing.yaml").source)
    cfg = config.Config(ingest=config.schema.Ingest(source=source, max_megapixels=1.0))
    with pytest.raises(FieldmarkError, match="at least two classes") as error:
        ingest.run(cfg, images=tmp_path, feedback=tmp_path / "none", out=tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out" / "quarantine.csv")) == 3
    said = str(error.value) + repr(capsys.readouterr()) + ingest.check(cfg, images=tmp_path)
    assert "https://h.example/a/1.jpg" in said
    assert SECRET not in said
    assert [file.name for file in (tmp_path / "out").iterdir() if SECRET in as_text(file)] == []


def as_text(file: Path) -> str:
    if file.suffix == ".parquet":
        return str(pd.read_parquet(file).to_dict())
    return file.read_text()


@pytest.mark.usefixtures("project")
@pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")
def test_the_record_of_a_run_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd() / 'runs.db'}")
    text = Path("params.yaml").read_text().replace("images: data/images", f"images: '{URL}'")
    Path("params.yaml").write_text(text)
    cfg = config.load()
    assert cfg.images == URL
    settings = {**cfg.plain(), "features": {"weights": URL}}
    with tracking.stage_run("ingest", {"libraries": "{}"}, settings, settings) as run:
        pass
    above = mlflow.get_run(run).data.tags["mlflow.parentRunId"]
    for run_id in (run, above):
        record = mlflow.get_run(run_id)
        assert record.data.params["images"] == "https://h.example/a/1.jpg"
        noted = mlflow.artifacts.load_text(f"{record.info.artifact_uri}/config.json")
        assert json.loads(noted)["images"] == "https://h.example/a/1.jpg"
        assert SECRET not in f"{record.to_dictionary()} {noted}"
    printed = CliRunner().invoke(cli.app, ["config"], catch_exceptions=False).stdout
    assert "images: https://h.example/a/1.jpg" in printed and SECRET not in printed


def test_a_tracking_server_that_is_away_is_named_without_password(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "false")  # restored afterwards
    with pytest.raises(FieldmarkError) as error:
        CliRunner().invoke(cli.app, ["models"], catch_exceptions=False)
    assert "127.0.0.1" in str(error.value) and SECRET not in str(error.value)
    assert mlflow.environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()


@pytest.mark.parametrize("url", ["nonsense://me:hush@h/x", "postgresql+none://me:hush@h/x", "hush"])
def test_a_monitor_store_that_is_none_is_named_without_password(url: str) -> None:
    with pytest.raises(FieldmarkError, match="FIELDMARK_MONITOR_URL") as error:
        tables.connect(url)
    assert SECRET not in str(error.value)


def test_a_camera_is_named_without_password() -> None:
    with pytest.raises(FieldmarkError, match="camera rtsp://127.0.0.1:9/x cannot") as error:
        next(camera.frames(f"rtsp://me:{SECRET}@127.0.0.1:9/x?key={SECRET}"))
    assert SECRET not in str(error.value)


@pytest.mark.usefixtures("project")
def test_a_password_that_git_will_hold_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("params.yaml").read_text().replace("images: data/images", f"images: '{URL}'")
    Path("params.yaml").write_text(text)
    config.check_images()
    assert capsys.readouterr().err == (
        "params.yaml: images: holds a user, password or query, and so will git and dvc.lock\n"
    )


def test_a_traceback_holds_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow's errors name the address of every request."""

    def app(prog_name: str) -> None:
        raise RuntimeError(f"API request to {URL} failed")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    said = capsys.readouterr().err
    assert said.endswith("RuntimeError: API request to https://h.example/a/1.jpg failed\n")


def test_the_log_of_a_server_holds_none() -> None:
    code = (
        "import logging; from pipeline.serving.plan import log_to_stderr; log_to_stderr()\n"
        f"try: raise OSError({URL!r})\n"
        "except OSError: logging.getLogger('x').exception('failed at %s', "
        f"{URL!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ERROR x: failed at https://h.example/a/1.jpg" in done.stderr
    assert "OSError: https://h.example/a/1.jpg" in done.stderr
