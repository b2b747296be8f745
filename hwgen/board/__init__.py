"""From a configuration to what a person with Vivado needs for a board; checks without Vivado."""
