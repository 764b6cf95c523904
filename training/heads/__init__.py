"""Rendered talking heads: identities, motion from phonemes, and pictures with their ground truth."""
