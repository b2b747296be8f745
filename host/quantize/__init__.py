"""Activation-aware quantisation of Qwen2 and Llama models on a CPU: ``kria-llm quantize``."""
