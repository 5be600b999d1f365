"""The project's own figures: each beside its goal and beside what a user would run instead, in one run."""
