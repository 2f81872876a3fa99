"""Figures of the chapters: pure functions from data to plotly figures, a module for each topic."""
