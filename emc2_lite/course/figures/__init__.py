"""Figures of the chapters: pure functions from data to plotly figures, one module a topic."""
