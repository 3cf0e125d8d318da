"""One module a verb, each a function that typer reads; its `app` is what the command line loads.

What a function needs beyond the standard library, rich and the schema it imports itself, once a wrong call has been
told: torch takes a second to load, and verbs that only read answer without it.
"""
