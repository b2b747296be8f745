"""What four bits cost: the tables of docs/quantisation.md, by the commands that a user has."""
