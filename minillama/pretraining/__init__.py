"""Part II: from texts to a trained base model."""
