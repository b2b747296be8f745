"""The forward pass: matmuls on a device, compiled kernels between them, KV cache, LM head."""
