"""Converting: a model's weights, whatever files they are in, into one file of aligned records in one pass."""
