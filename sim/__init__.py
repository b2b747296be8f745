"""The accelerator without a board: golden model, cycle model, Verilated device."""
