"""Loads language models: Hugging Face directories (AWQ, GPTQ, compressed-tensors, unquantised)
and GGUF files.

    checkpoint = host.checkpoint.find("SmolLM2.gguf")     # looks at headers only
    model = checkpoint.model(group=64, head_bits=8)       # host.weights.Model
    tokenizer = checkpoint.tokenizer()                    # host.text.tokenizer.Tokenizer
    chat = checkpoint.chat()                              # host.text.chat.ChatTemplate

Everything that is wrong with a file is a ``CheckpointError`` (or ``TokenizerError``,
``ChatError``): one sentence.
"""

from host.checkpoint.checkpoints import Checkpoint
from host.checkpoint.detect import find
from host.checkpoint.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointError", "find"]
