"""Overlays, heat maps, image grids and panels."""
