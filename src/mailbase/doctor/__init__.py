"""The doctor: looks at everything letters need on their way out and back, and says in plain words what is wrong and what to do."""
