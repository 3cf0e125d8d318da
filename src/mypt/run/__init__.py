"""One function per use: resolve, build, run, save."""
