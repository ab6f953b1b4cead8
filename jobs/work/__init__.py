"""What a worker does for an extraction job: plan it, read its shards, finish it."""
