"""Drawings from arrays: the palette of mask classes, overlays, outlines, heatmaps, panels and image grids."""
