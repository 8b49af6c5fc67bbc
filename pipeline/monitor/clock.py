"""Times as people of this machine's time zone read them."""

from datetime import datetime


def clock(seconds: float, *, dated: bool = False, to_second: bool = False) -> str:
    """Hour and minute of a time in seconds since 1970; with date and zone when `dated`, or with
    seconds.
    """
    form = "%Y-%m-%d %H:%M %Z" if dated else "%H:%M:%S" if to_second else "%H:%M"
    return datetime.fromtimestamp(seconds).astimezone().strftime(form)
