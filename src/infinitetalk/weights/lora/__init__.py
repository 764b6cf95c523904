"""LoRA files: what their keys mean, what they change in a network, and how it is applied."""
