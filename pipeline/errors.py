"""The one exception whose message is meant for the user: shown without a traceback."""


class FieldmarkError(Exception):
    """Something the user can put right; the message says what is wrong and what to do."""
