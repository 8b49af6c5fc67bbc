"""What a command needs and not every machine has: UTF-8, a name, a home.

A container may have none of them: no locale, an account that is only a number, no home.
"""

import codecs
import getpass
import io
import locale
import os
import sys
from pathlib import Path

UTF8 = "PYTHONUTF8"
STARTED_IN = "FIELDMARK_STARTED_IN"  # the encoding, where it was not UTF-8
HOME = Path(".fieldmark/home")


def settle() -> None:
    """Provide what is missing, for this process and its children; may restart the command."""
    _speak_utf8()
    if os.name == "posix":
        _have_name()
        _have_home()


def dvc_encoding() -> str:
    """The encoding of file names of the `dvc` that started this stage.

    It is "" where that is UTF-8, or where no `dvc` started this.
    """
    return os.environ.get(STARTED_IN, "") if os.environ.get("DVC_STAGE") else ""


def account() -> str:
    """The name of the account, or its number where the machine knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # which one depends on Python's version and system
        return f"uid-{os.getuid()}"


def _speak_utf8() -> None:
    """File names, files, pipes and arguments in UTF-8, whatever the locale says.

    Python chooses the encoding of file names as it starts. Where that is another one, Python is
    started again.
    """
    chosen = {
        codecs.lookup(name).name for name in (locale.getencoding(), sys.getfilesystemencoding())
    }
    if chosen != {"utf-8"} and not sys.flags.utf8_mode and os.environ.get(UTF8) != "1":
        os.environ |= {UTF8: "1", STARTED_IN: locale.getencoding()}
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _have_name() -> None:
    """MLflow, DVC and torch ask for the account's name, and fail without one."""
    if (name := account()).startswith("uid-"):
        os.environ["LOGNAME"] = name  # getpass reads it first


def _have_home() -> None:
    """A folder of ours for libraries that keep files in the home.

    An existing home stays the home, since credentials may lie in it. Where it cannot be written,
    caches go elsewhere.
    """
    home = Path("~").expanduser() if os.environ.get("HOME") else _home_of_account()
    if home is not None and home.is_dir() and os.access(home, os.W_OK):
        return
    own = HOME.resolve()
    try:
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:  # whatever needs the folder will fail with its own message
        return
    if home is None or not home.is_dir():
        os.environ["HOME"] = str(own)
    os.environ.setdefault("MPLCONFIGDIR", str(own))
    os.environ.setdefault("XDG_CACHE_HOME", str(own))


def _home_of_account() -> Path | None:
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None
