"""Data and training of the bundled model."""
