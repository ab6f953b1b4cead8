"""What is written to the log, without the secrets that some addresses are."""

import logging
import re

_SECRET = re.compile(r"(?<![^\s'\"])/(s|login)/[^\s'\"]+")


class WithoutSecrets(logging.Filter):
    """Django names the address of what it refuses: that of a shared link or of a one-time login is the whole secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if _SECRET.search(said):
            record.msg, record.args = _SECRET.sub(r"/\1/…", said), ()
        return True
