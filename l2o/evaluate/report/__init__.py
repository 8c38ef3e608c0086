"""The output of an evaluation: tables, pictures, a page."""
