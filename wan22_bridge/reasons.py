"""The reasons of errors of libraries and of the system, in a form that clients and logs may show."""

import re

_REMOVED = (
    # The user and the password in a URL, and its query, which may be a signature.
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/?#'\"<>]*@", re.IGNORECASE), r"\1…@"),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE), r"\1?…"),
    (re.compile(r"\b(hf_|whsec_|wan22_[0-9a-f]{16}_|Bearer\s+|AKIA|ASIA)[\w+/=-]+"), r"\1…"),
    # All of an absolute path but its last name. A quoted path may hold spaces.
    (re.compile(r"(['\"])/(?:[^'\"\n]*/)?([^'\"\n/]*)\1"), r"\1\2\1"),
    (re.compile(r"(?<![\w:/.~])/(?:[^\s/'\"<>]+/)+([^\s/'\"<>]*)"), r"\1"),
)
_MAX_CHARACTERS = 200


def find_reason(error: BaseException, *, limit: int = _MAX_CHARACTERS) -> str:
    """Returns the first line of an error's text, without paths, passwords, signatures and tokens.

    Args:
        error: the error of a library or of the system.
        limit: maximum number of characters.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = text.strip().partition("\n")[0]
    for pattern, replacement in _REMOVED:
        line = pattern.sub(replacement, line)
    return line[:limit].rstrip(". ") or type(error).__name__
