"""Generation with the reference models: caches, chunked prefill, sampling, speculative decoding."""
