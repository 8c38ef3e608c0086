"""What an evaluation writes: tables, pictures, a page."""
