"""Measures of talking videos by judges that were not trained on our pictures: landmarks, identity, phonemes."""
