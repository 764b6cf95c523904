"""Says what weight files are and puts a model together from them, from their headers alone."""
