"""The board and what runs on it: firmware, power, the self test."""
