"""Finding features: by the words of labels and explanations, by the text of examples, by meaning."""
