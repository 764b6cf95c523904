"""Training of the bundled model nano with the product's own network classes: pictures, VAE, DiT, export."""
