"""Times in the time zone of this machine."""

from datetime import datetime


def clock(seconds: float, *, dated: bool = False, to_second: bool = False) -> str:
    """Hour and minute of a time in seconds since 1970.

    `dated` adds date and zone, `to_second` the seconds.
    """
    form = "%Y-%m-%d %H:%M %Z" if dated else "%H:%M:%S" if to_second else "%H:%M"
    return datetime.fromtimestamp(seconds).astimezone().strftime(form)
