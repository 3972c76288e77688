"""Part I: the model."""
