"""Sheets: one picture that shows an explanation as a whole."""
