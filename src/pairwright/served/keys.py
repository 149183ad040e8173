"""API keys: from the environment, into the request, and nowhere else."""

import json
import os
import re
from urllib.parse import urlsplit

from pydantic import SecretStr

from pairwright.errors import InputError

DEFAULT = "OPENAI_API_KEY"
_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


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
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            "url has a user, a password or a query in it, which would end up in files; give the plain base URL, and "
            "the key by an environment variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"url {url!r} is no base URL of a server; give one such as http://127.0.0.1:8000/v1")
    return url.rstrip("/")


def find_key(url: str, name: str | None) -> SecretStr | None:
    """The key of a server, or None where it gets none.

    Args:
        url: its base URL.
        name: of the environment variable; None is `OPENAI_API_KEY`, which is not sent over the net in the clear.

    Raises:
        InputError: the variable is named and not set.
    """
    if name is not None:
        value = os.environ.get(check_name(name))
        if not value:
            raise InputError(f"the environment variable {name} is not set; put the API key into it, or leave key out")
        return SecretStr(value)
    parts = urlsplit(url)
    value = os.environ.get(DEFAULT)
    private = parts.scheme == "https" or parts.hostname in _LOOPBACK
    return SecretStr(value) if value and private else None


def scrubbed(text: str, key: SecretStr | None) -> str:
    """A text without the key: a server may say back what it was sent."""
    if key is None:
        return text
    secret = key.get_secret_value()
    for form in (secret, json.dumps(secret)[1:-1]):
        text = text.replace(form, "[key]")
    return text
