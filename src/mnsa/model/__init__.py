"""The network: backbone, enhancer, decoder and heads."""
