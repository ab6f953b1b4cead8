"""The columns that an import fills, in the order in which its rows have them."""

FEATURE = ("decoder_norm", "encoder_decoder_cosine", "logits", "neighbours")
ACTIVITY = (
    "n_firing", "n_contexts", "density", "max_activation", "mean_activation", "histogram", "examples", "partners",
    "experts",
)  # fmt: skip
CONTEXT = ("run", "number", "document_id", "document_source", "offset", "token_ids", "features")
LABEL = (
    "id", "feature", "run", "text", "explanation", "source", "author_name", "rule", "precision", "n_held_out", "method",
    "explainer", "outside_id", "created_at",
)  # fmt: skip
