"""API keys: from the environment, into the request, and nowhere else."""

import ipaddress
import json
import os
import re
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from pairwright.errors import InputError

DEFAULT = "OPENAI_API_KEY"
_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LONG = 8
"""Characters from which on a key is searched for everywhere; a shorter one, such as `x` or `none`, is in any text."""


def check_name(name: str) -> str:
    """The name of an environment variable, if it looks like one.

    Raises:
        InputError: it does not, so that it may be a key. The message does not repeat it.
    """
    if len(name) > 64 or not _NAME.fullmatch(name):
        raise InputError(
            f"key is the name of an environment variable in capitals with an underscore, such as {DEFAULT}, and never "
            "the key itself; put the key into the environment"
        )
    return name


def check_url(url: str) -> str:
    """The base URL without a slash at its end.

    Raises:
        InputError: it is no http URL, or carries a user, a password or a query, which may be secrets.
    """
    try:
        parts = urlsplit(url)
        user = parts.username is not None or parts.password is not None
        has_more = user or bool(parts.query or parts.fragment)
    except ValueError:  # brackets that do not close
        parts, has_more = None, any(mark in url for mark in "@?#")
    if has_more:
        raise InputError(
            "url has a user, a password or a query in it, which would end up in files; give the plain base URL, and "
            "the key by an environment variable"
        )
    if parts is None or not _is_base(parts) or not url.isprintable() or " " in url:
        raise InputError(f"url {url!r} is no base URL of a server; give one such as http://127.0.0.1:8000/v1")
    return url.rstrip("/")


def _is_base(parts: SplitResult) -> bool:
    name = parts.hostname or ""
    try:
        if ":" in name:
            ipaddress.ip_address(name)
        elif not re.fullmatch(r"[\w.-]+", name) or not name.encode("idna"):
            return False
        return parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:  # a port that is no number or above 65535, an address or a name that cannot be
        return False


def find_key(url: str, name: str | None) -> SecretStr | None:
    """The key of a server, or None where it gets none.

    Args:
        url: its base URL.
        name: of the environment variable; None is `OPENAI_API_KEY`, which is not sent over the net in the clear.

    Raises:
        InputError: the variable is named and not set, or what it holds cannot be sent. The message does not repeat it.
    """
    if name is not None:
        value = _value(check_name(name))
        if not value:
            raise InputError(f"the environment variable {name} is not set; put the API key into it, or leave key out")
        return SecretStr(value)
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        return None
    value = _value(DEFAULT)
    return SecretStr(value) if value else None


def _value(name: str) -> str:
    """What a variable holds, without the line feed that a file or a pipe leaves at its end."""
    value = os.environ.get(name, "").strip(" \t\r\n")
    if not value.isascii() or not value.isprintable():
        raise InputError(
            f"the environment variable {name} has a character in it that no API key has (not ASCII, or a control "
            "character such as a line feed); put the key into it again, and nothing else"
        )
    return value


def is_long(key: SecretStr | None) -> bool:
    """Whether a key is so long that a text which has it in it says the key, and not a word."""
    return key is not None and len(key.get_secret_value()) >= _LONG


def scrubbed(text: str, key: SecretStr | None) -> str:
    """A text without the key: a server may say back what it was sent. A short key is cut out behind `Bearer ` alone."""
    if key is None:
        return text
    secret = key.get_secret_value()
    mark = "" if is_long(key) else "Bearer "
    for form in (secret, json.dumps(secret)[1:-1]):
        text = text.replace(mark + form, mark + "[key]")
    return text
