"""The commands of the program, by what a person does; harness/cli.py lists them."""
