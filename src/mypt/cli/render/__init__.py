"""Records as tables, pages, curves and progress: pure functions from data to what is shown."""
