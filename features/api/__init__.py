"""The REST API of the feature database."""
