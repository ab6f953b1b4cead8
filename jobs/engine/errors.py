"""What the engine raises when its input is at fault: one sentence that names the file and the fault."""


class EngineError(Exception):
    """The input cannot be used. ``str(error)`` is one sentence to show to a person, as it is."""


class ModelLoadError(EngineError):
    """The language model is missing, unreadable or of a kind that cannot be hooked."""


class HubError(EngineError):
    """Something on a hub is not there, is closed to us, is too large, or did not arrive."""


class SAELoadError(EngineError):
    """The SAE checkpoint is missing, broken, or does not fit what is asked of it."""


class CorpusError(EngineError):
    """The corpus is missing, unreadable or without text."""


class SettingsError(EngineError):
    """The settings contradict each other, the model or the SAE."""


class NotFinite(EngineError):
    """The activations hold NaN or infinity."""


class DamagedState(EngineError):
    """A saved shard state cannot be read; the shard has to be made again."""
