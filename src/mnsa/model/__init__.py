"""What computes: the parts of the network, and `network.build_network`, the only place where config meets modules."""
