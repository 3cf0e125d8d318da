"""What goes out into other formats and comes in from them, one function for each use."""
