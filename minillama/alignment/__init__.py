"""Part III: from a model that continues texts to one that answers, helpfully and safely (chapters 12 to 18)."""
