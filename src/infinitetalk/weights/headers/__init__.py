"""One reader per kind of weight file. They read headers alone: no tensor's data, no torch, no code in a file."""
