"""The dispatcher: claims jobs from the store and follows each one to its end."""
