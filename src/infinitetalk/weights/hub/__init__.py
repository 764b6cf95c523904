"""Downloaded models: what the hub has, how it gets here, and what of it lies on this disk.

Weights live in Hugging Face's own cache, each once; a model is a small record that names them (`store`). `client` asks
the hub, `fetch` brings one file, `store` keeps the records.
"""
