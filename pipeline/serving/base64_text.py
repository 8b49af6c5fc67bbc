"""Files as text in JSON: base64 in its common variants."""

import base64
import string
from urllib.parse import unquote

ALPHABET = (string.ascii_letters + string.digits + "+/").encode()
SPACE = b" \t\r\n\f\v"
URL_SAFE = bytes.maketrans(b"-_", b"+/")


def decoded(text: str) -> bytes:
    """The bytes of a base64 text (RFC 4648).

    It may be plain or URL-safe, wrapped or not, with or without padding, alone or in a `data:` URL.
    Raises ValueError with what is wrong.
    """
    if text[:5].lower() == "data:":
        text = _of_data_url(text)
    elif "://" in text[:16]:
        raise ValueError("this is an address; send the file itself in base64")
    try:
        letters = text.encode("ascii").translate(URL_SAFE, SPACE)
    except UnicodeEncodeError as error:
        raise _not_in_base64(text[error.start]) from None
    letters = letters.rstrip(b"=")
    if wrong := letters.translate(None, ALPHABET):
        raise _not_in_base64(chr(wrong[0]))
    if len(letters) % 4 == 1:
        raise ValueError(f"{len(letters)} letters are not whole bytes in base64; some are missing")
    return base64.b64decode(letters + b"=" * (-len(letters) % 4))


def _of_data_url(url: str) -> str:
    kind, comma, text = url.partition(",")
    if not comma:
        raise ValueError("this data: URL has no comma, so it has no data")
    if not kind.rstrip().lower().endswith(";base64"):
        raise ValueError(
            "this data: URL is not in base64; it must start like data:image/png;base64,"
        )
    return unquote(text, errors="strict") if "%" in text else text


def _not_in_base64(letter: str) -> ValueError:
    where = "before the end " if letter == "=" else ""
    return ValueError(f"{letter!r} {where}is not a letter of base64")
