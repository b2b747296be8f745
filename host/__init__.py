"""The runtime: drives the accelerator and performs the rest of Qwen2.5 inference. Imports spec."""
