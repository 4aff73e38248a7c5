"""The program `align`."""
