"""``kria-llm doctor``: what could make the board fail or be slow, each finding with its remedy."""
