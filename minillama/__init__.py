"""minillama: Llama 2 from scratch, in the order in which the book builds it.

`model` is Part I, `pretraining` Part II, `alignment` Part III, `family` Part IV; one chapter, one module.
"""

from minillama.paths import data_path

__all__ = ["data_path"]
__version__ = "0.1.0"
