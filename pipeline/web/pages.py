"""Single-file pages: their shared script, what they may load, and who may send requests.

A page may load only its own style and script, which it names by their hashes.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

SHARED = Path(__file__).with_name("pages.js")
MARK = "/* pages.js */"  # the place of the shared script in a page
PROJECT = "{{ project }}"  # the place of the project's name
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def read(page: Path, project: str) -> str:
    """The page with the shared script and the project's name in place."""
    script = SHARED.read_text(encoding="utf-8").strip()
    text = page.read_text(encoding="utf-8").replace(MARK, script, 1)
    return text.replace(PROJECT, html.escape(project))


def content_security_policy(page: str, pictures: str = "'self'") -> str:
    """The header that allows only the page's own style and script.

    `pictures` lists the sources of images. Requests may go only to the page's own server, and text
    is never markup.
    """
    own = {tag: _hashes(page, tag) for tag in ("style", "script")}
    return (
        f"default-src 'none'; style-src {own['style']}; script-src {own['script']}; img-src "
        f"{pictures}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def from_another_page(headers: Mapping[str, str], *, opens_page: bool) -> bool:
    """Whether a browser reports that a page of another site sends this request.

    Other clients report nothing. opens_page: the request is for the page itself, to which other
    sites may link.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none") and not opens_page:
        return True
    return origin is not None and _host(origin) != headers.get("host", "")


def _host(origin: str) -> str:
    """Host and port of an origin, "" for an invalid one."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hashes(page: str, tag: str) -> str:
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = (hashlib.sha256(part.encode()).digest() for part in parts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
