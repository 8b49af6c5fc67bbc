"""Names of files, folders and classes: which are left out, how they print, which look alike."""

import os
import re
import unicodedata
from collections.abc import Iterable

# What operating systems, storage devices and file managers put beside people's files: thumbnails,
# deleted photos. Such a folder is not read.
LITTER = {
    # file managers
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    "picasa.ini",
    "icon\r",
    "desktop db",
    "desktop df",
    "zbthumbnail.info",
    "__macosx",
    "network trash folder",
    "temporary items",
    "thevolumesettingsfolder",
    # storage devices in a network: Synology, QNAP, NetApp
    "@eadir",
    "@tmp",
    "@sharebin",
    "@sharesnap",
    "@recycle",
    "@recently-snapshot",
    "@__thumb",
    "#recycle",
    "#snapshot",
    "~snapshot",
    # disks, cards and phones
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "lost.dir",
    # Python
    "__pycache__",
}
BEGINNINGS = (
    ".",  # hidden: .DS_Store, .Trash-1000, .thumbnails, .Spotlight-V100, .fseventsd, ._photo.jpg
    "~$",  # an office document that is open
    "thumbs.db:",
    "synophoto_thumb",
    "synofile_thumb",
)
FOUND = re.compile(r"found\.\d{3}")  # what CHKDSK saved, a folder each time
BINS = {"RECYCLER", "RECYCLED"}  # of FAT; in small letters a class may be called so
# Characters that reverse the text around them: a name would read as another.
TURNING = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is always left out."""
    folded = name.casefold()
    return (
        folded in LITTER
        or folded.startswith(BEGINNINGS)
        or name in BINS
        or FOUND.fullmatch(folded) is not None
    )


def printable(name: str) -> str:
    """The name for tables and terminals, in NFC.

    Undecodable bytes are escaped, and so are characters that break or reverse a line.
    """
    try:
        text = os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, from an archive or a listing
        text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(_visible(letter) for letter in unicodedata.normalize("NFC", text))


def _visible(letter: str) -> str:
    control = letter in TURNING or unicodedata.category(letter) in ("Cc", "Zl", "Zp")
    return letter.encode("unicode_escape").decode() if control else letter


def alike(classes: Iterable[str]) -> list[list[str]]:
    """The classes that people would take for one: they differ in case, width, spaces or joints."""
    groups: dict[str, list[str]] = {}
    for name in sorted(classes):
        groups.setdefault(_folded(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _folded(name: str) -> str:
    letters = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(letter for letter in letters if unicodedata.category(letter) != "Cf")
    return (
        "".join(letter for letter in visible if not letter.isspace() and letter not in "_-")
        or visible
    )
