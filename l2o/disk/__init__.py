"""What is written and read: files that nothing spoils, arrays and JSON that run nothing."""
