"""Pages of one file: what their scripts share, and what they may load: their own style and script, by their hashes."""

import base64
import hashlib
import re
from pathlib import Path

SHARED = Path(__file__).with_name("pages.js")
MARK = "/* pages.js */"  # where a page wants it


def read(page: Path) -> str:
    """The page with what the scripts share."""
    return page.read_text(encoding="utf-8").replace(MARK, SHARED.read_text(encoding="utf-8").strip(), 1)


def content_security_policy(page: str, pictures: str = "'self'") -> str:
    """Only the page's own style and script, pictures as told and requests to where it came from; text is never markup."""
    own = {tag: _hashes(page, tag) for tag in ("style", "script")}
    return (
        f"default-src 'none'; style-src {own['style']}; script-src {own['script']}; img-src {pictures}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hashes(page: str, tag: str) -> str:
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = (hashlib.sha256(part.encode()).digest() for part in parts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
