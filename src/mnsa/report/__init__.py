"""Figures and pages, from what a folder holds and never from memory. Matplotlib lives here."""
