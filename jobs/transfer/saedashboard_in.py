"""SAEDashboard's batches into the spool: one object per feature, its activations inside it."""

from typing import Any

from jobs.transfer.faults import Refused
from jobs.transfer.neuronpedia_in import keep_activation, keep_feature
from jobs.transfer.records import activation, count, feature, index_of, text
from jobs.transfer.spool import Spool

INTERVAL = ("bin_min", "bin_contains")
_FACTS = ("n_prompts_total", "n_tokens_in_prompt")


def read_batch_feature(record: dict[str, Any], spool: Spool, file: str, number: int) -> None:
    """A feature and its activations; one of those that cannot be used costs no other. Raises Refused."""
    index = index_of(record, "feature_index")
    activations = record.get("activations")
    if activations is not None and not isinstance(activations, list):
        raise Refused("its activations are no list")
    _keep_facts(record, spool)
    keep_feature(feature(record, "feature_index"), spool)
    for place, inner in enumerate(activations or [], 1):
        spool.n_read += 1
        try:
            if not isinstance(inner, dict):
                raise Refused("it is not a JSON object")
            keep_activation(activation(inner, index, INTERVAL), spool)
        except Refused as error:
            spool.fault(file, number, f"feature {index}, activation {place}: {error}")


def _keep_facts(record: dict[str, Any], spool: Spool) -> None:
    """How much was read for the dashboards: the first feature that says it speaks for all."""
    if "n_prompts_total" not in spool.facts:
        spool.facts |= {key: count(record, key) for key in _FACTS} | {"dataset": text(record, "dataset", 200)}
