"""Traits of leaves, veins, areoles and lesions, measured on masks; knows nothing of networks and needs no torch."""
