"""Checks of the exercises, one module a topic."""
