"""Models on the Hugging Face Hub: download, save, model cards."""
