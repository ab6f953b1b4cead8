"""A database of a million features, made up: what pages and searches meet when a site is full.

``python -m tests.scale --features 1000000`` fills the empty, migrated database that Django's settings name. The same
seed and vocabulary give the same rows. Bytes are those of a real run: examples have the lengths, positions and
relative values that were measured on one, and every blob is read by features.store.

Of each feature its own: density, counts, maximum, histogram, contexts of all examples, the scale of all values, logit
effects, neighbours, partners, labels. Shared by features of one template (some 4,400 of them, by how often a feature
fires): how many tokens fire in each example, at which positions, and their values relative to the maximum. Contexts
are 128 tokens of Zipf-like text, the same in all runs; a context cites exactly the features that have it as an example.
Not as in a real run: an example's text has nothing to do with its feature's label, and neighbours are not symmetric.
"""
