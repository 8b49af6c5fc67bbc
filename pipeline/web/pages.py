"""Pages of one file: what their scripts share, what they may load (their own style and script, by
their hashes), and who may ask.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

SHARED = Path(__file__).with_name("pages.js")
MARK = "/* pages.js */"  # where a page wants it
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def read(page: Path) -> str:
    """The page with what the scripts share."""
    return page.read_text(encoding="utf-8").replace(
        MARK, SHARED.read_text(encoding="utf-8").strip(), 1
    )


def content_security_policy(page: str, pictures: str = "'self'") -> str:
    """Only the page's own style and script, pictures as told and requests to where it came from;
    text is never markup.
    """
    own = {tag: _hashes(page, tag) for tag in ("style", "script")}
    return (
        f"default-src 'none'; style-src {own['style']}; script-src {own['script']}; img-src "
        f"{pictures}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def from_another_page(headers: Mapping[str, str], *, opens_page: bool) -> bool:
    """Whether a browser says that another site's page sends this request; what is no browser says
    nothing of it.

    opens_page: it asks for the page itself, to which other sites may link.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none") and not opens_page:
        return True
    return origin is not None and _host(origin) != headers.get("host", "")


def _host(origin: str) -> str:
    """Host and port of an origin, "" for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hashes(page: str, tag: str) -> str:
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = (hashlib.sha256(part.encode()).digest() for part in parts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
