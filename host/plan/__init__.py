"""Where each operation runs, what it costs, and where that figure comes from."""
