"""Part IV: Code Llama, derived models, quantization, real weights."""
