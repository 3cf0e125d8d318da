"""GGUF: the file that llama.cpp, Ollama and what is built on them open."""
