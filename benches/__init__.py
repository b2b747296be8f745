"""Measurements: each module prints its figures as JSON lines, with what they were made on."""
