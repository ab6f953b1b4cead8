"""What is wrong with a file, or with one record of it, in a sentence."""


class Refused(ValueError):
    """One record cannot be used. The message says why, without its file and line."""


class Broken(ValueError):
    """The rest of a file cannot be read. The message says why; what came before it counts."""


class NotAnExport(ValueError):
    """None of the files can be used as they are. The message says what was expected."""
