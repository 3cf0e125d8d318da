"""The data of a run: opened as the settings of a new one say, or as recorded."""
