"""The one exception whose message is meant for the user: shown without a traceback; and how to
quote the others in it.
"""


class FieldmarkError(Exception):
    """Something the user can put right; the message says what is wrong and what to do."""


def one_line(error: BaseException) -> str:
    """What a library's exception says, in one line of at most 300 characters; its type where it
    says nothing.
    """
    return " ".join(str(error).split())[:300] or type(error).__name__
