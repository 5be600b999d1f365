"""Triage: from what was observed to one named cause."""
