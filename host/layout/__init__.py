"""A model laid out in the accelerator's memory: packed matrices, activations, images in files."""
