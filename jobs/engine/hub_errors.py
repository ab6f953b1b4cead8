"""What goes wrong with a hub, said in one sentence each.

What the libraries say is neither passed on nor chained: it may hold an address with a password, or a header.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import huggingface_hub
from huggingface_hub import constants

from jobs.engine.errors import HubError

OFF = "the hub is off here: set ALLOW_HUB=1 to fetch it, or give a folder on this machine instead"


@contextmanager
def in_one_sentence(label: str) -> Iterator[None]:
    """Raises HubError for whatever huggingface_hub raises while ``label`` is asked for."""
    import httpx2

    kinds = (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, TypeError, KeyError, RuntimeError)
    try:
        yield
    except (*kinds, huggingface_hub.errors.EntryNotFoundError, AttributeError) as error:
        raise HubError(_sentence(error, label)) from None


def _sentence(error: Exception, label: str) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why it looked in the cache at all
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        return f"{label} cannot be stored in {constants.HF_HUB_CACHE}: {os.strerror(error.errno)}."
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    said = next((said for kind, said in _sentences() if isinstance(error, kind)), "")
    if not said:
        said = f"The download of {{}} broke off or was not what a hub sends ({type(error).__name__}); try again."
    return said.format(label, status=status)


@cache
def _sentences() -> tuple[tuple[type[Exception], str], ...]:
    """The first that fits is taken."""
    import httpx2
    from huggingface_hub import errors

    return (
        (
            errors.GatedRepoError,
            "{} is gated: accept its terms on the hub, or ask its owner for access, and set HF_TOKEN to a token of "
            "the account that has it.",
        ),
        (errors.RevisionNotFoundError, "The hub has no such revision: {}."),
        (
            errors.RepositoryNotFoundError,
            "The hub has no repository {}, or it is private: then set HF_TOKEN to a token of an account with access.",
        ),
        (errors.EntryNotFoundError, "A file that {} lists is not there; try again."),
        (errors.HfHubHTTPError, "The hub answered with status {status} when asked for {}; try again later."),
        (errors.OfflineModeIsEnabled, f"{{}} cannot be fetched: {OFF}."),
        (
            httpx2.TimeoutException,
            "The hub did not answer in time when asked for {}; try again, or give a folder on this machine instead.",
        ),
        (
            httpx2.TransportError,
            "The hub cannot be reached for {}: check the network and HF_ENDPOINT, or give a folder on this machine.",
        ),
    )
